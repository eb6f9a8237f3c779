"""Texts to rewards: the single door, through the same grid as training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.template import Prompt, TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.model.reward import RewardModel, grid_features
from rbs_jax.score.grids import Row, Shape, at_most, calls, step_of
from rbs_jax.score.opened import opened
from rbs_jax.score.texts import Text, Texts
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import on_all
from rbs_jax.train.models import LoadedModel


class Scored(NamedTuple):
    """The responses to one prompt; NaN where a response has no reward."""

    rewards: np.ndarray
    """[responses], float32."""
    features: np.ndarray
    """What the head multiplies [responses, width], float32: rewards are features @ head + offset,
    and those of another head are as many products."""


class Shapes(NamedTuple):
    """How many shapes of arrays were computed with, and so compiled, and how many can be."""

    compiled: int
    at_most: int


@jax.jit
def _rewards_and_features(model: RewardModel, grid: TokenGrid) -> tuple[jax.Array, jax.Array]:
    # Of the module, not of a scorer: the next checkpoint's scorer finds it compiled.
    x_GPSD = grid_features(model, grid)
    return on_all(model.of_features(x_GPSD)), on_all(x_GPSD)


class Scorer:
    """Rewards of responses to prompts.

    Prompt and response are made one text by a template, that which training saw
    unless told, and tokenised as one. What a prompt's responses have in common at their start is
    encoded once.

    A score hangs on no neighbour, order, padding or number of devices, but for rounding: float32
    scores differ by less than 1e-4 of the scores' standard deviation (2e-6 measured). With
    bfloat16 by less than 0.1 of it (0.03 measured, 0.01 on one device): where sums are taken in
    another order, an activation may round to its other neighbour, 2^-8 of its size away, and
    every layer hands that on. Rounding itself moves scores twice as far from float32's.

    Attributes:
      context: the longest text [tokens].
      most_responses: the most to one prompt so far.
    """

    def __init__(
        self,
        model: LoadedModel | str | Path,
        mesh: Mesh | None = None,
        template: TemplateConfig | None = None,
    ) -> None:
        """Compile the template, and load the model where that is to be done.

        Args:
          model: a loaded model, or the name of a MODEL.
          mesh: where it lies or is to lie; None for where it lies, or the mesh that it was
            trained on, or all devices.
          template: how prompt and response become one text; None as in training.

        Raises:
          UserError: no such model, a language model, or a template that its tokenizer lacks.
        """
        refusal = "a language model has no rewards: train a reward model from it first"
        loaded, self._mesh = opened(model, mesh, RewardModel, refusal)
        assert isinstance(loaded.model, RewardModel)
        self._model, self._texts = loaded.model, Texts(loaded, template)
        self._shapes: set[Shape] = set()
        self.context = loaded.experiment.model.max_positions
        self.most_responses = 1

    @property
    def shapes(self) -> Shapes:
        """The shapes of all texts so far: each is compiled once, and there are only so many."""
        most = at_most(self.context, self.most_responses, step_of(self._mesh))
        return Shapes(len(self._shapes), most)

    def score(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None = None,
    ) -> list[list[float | None]]:
        """The reward of every response, in the order given.

        A text longer than the model's context loses the start of its prompt, but for a
        beginning-of-text id. A response that alone exceeds the context, or a text
        without any token, has no reward: None.

        Args:
          prompts: strings, or lists of {"role", "content"}.
          responses: those to each prompt.
          names: what to call each prompt where the template refuses it.

        Raises:
          UserError: the template refuses a prompt, or a reward is not finite.
        """
        scored = self.scored(prompts, responses, names)
        return [[None if np.isnan(x) else float(x) for x in own.rewards] for own in scored]

    def features(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None = None,
    ) -> list[np.ndarray]:
        """What the head multiplies, as `Scored.features`; arguments and errors as in `score`."""
        return [own.features for own in self.scored(prompts, responses, names)]

    def scored(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None = None,
    ) -> list[Scored]:
        """Both in one pass; arguments and errors as in `score`."""
        self.most_responses = max(self.most_responses, *map(len, responses), 1)
        width = self._model.trunk.config.width
        done = [Scored(_unknown(len(own)), _unknown(len(own), width)) for own in responses]
        rows = list(self._rows(prompts, responses, names))
        with jax.set_mesh(self._mesh):
            for call in calls(rows, self._mesh):
                self._shapes.add(call.shape)
                results = _rewards_and_features(self._model, call.place(self._mesh))
                for (row, rewards), (_, features) in zip(*map(call.own, results), strict=True):
                    if not np.isfinite(rewards).all():
                        raise UserError("a reward is not finite: the model's weights are broken")
                    done[row.prompt].rewards[row.where] = rewards
                    done[row.prompt].features[row.where] = features
        return done

    def _rows(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None,
    ) -> Iterator[Row]:
        for index, texts in enumerate(self._texts.of(prompts, responses, names)):
            if texts:
                shared = _common_start(texts)
                suffixes = [text.ids[shared:] for text in texts]
                where = [text.where for text in texts]
                yield Row(index, texts[0].ids[:shared], suffixes, where)


def _unknown(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


def _common_start(texts: list[Text]) -> int:
    """How many ids all texts share at their start, leaving each at least one of its own."""
    every = [text.ids for text in texts]
    shortest, longest = min(every), max(every)  # in order, these two differ first
    limit = min(len(ids) for ids in every) - 1
    same = 0
    while same < limit and shortest[same] == longest[same]:
        same += 1
    return same
