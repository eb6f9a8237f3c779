"""Texts to log-probabilities under a language model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.template import Prompt, TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.model.language import LanguageModel, log_prob_grid
from rbs_jax.score.grids import Row, calls
from rbs_jax.score.opened import opened
from rbs_jax.score.texts import Texts
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import on_all
from rbs_jax.train.models import LoadedModel


class LogProb(NamedTuple):
    """Of one response, at least one token long."""

    total: float
    """Sum over its tokens, each after the prompt and the tokens before it [nats]."""
    tokens: int
    """How many they are."""
    unconditional: float
    """The same tokens' sum after the start id alone, without the prompt [nats]."""


@jax.jit
def _log_probs(model: LanguageModel, grid: TokenGrid) -> jax.Array:
    return on_all(log_prob_grid(model, grid))


class Likelihood:
    """Log-probabilities of responses to prompts.

    Texts are made as a Scorer makes them; in training a language model saw no template, which
    is the plain one. A response's tokens are all that do not belong to
    the prompt alone: one that straddles the border is the response's, and so is what ends its
    turn. The start id is the tokenizer's beginning-of-text, else its end of a document; it
    also predicts the first token where a prompt is empty.
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
          UserError: no such model, a reward model, or a template that its tokenizer lacks.
        """
        refusal = "a reward model has no log-probabilities: give a language model"
        loaded, self._mesh = opened(model, mesh, LanguageModel, refusal)
        bos_id, end_id = loaded.tokens.bos_id, loaded.tokens.end_id
        self._start_id = end_id if bos_id is None else bos_id
        self._model, self._texts = loaded.model, Texts(loaded, template, self._start_id)

    def score(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None = None,
    ) -> list[list[LogProb | None]]:
        """The log-probability of every response, in the order given.

        A text longer than the model's context loses the start of its prompt, but for a
        beginning-of-text id. A response that leaves no room in the context for a token before
        it, or has no token, has none: None.

        Args:
          prompts: strings, or lists of {"role", "content"}.
          responses: those to each prompt.
          names: what to call each prompt where the template refuses it.

        Raises:
          UserError: the template refuses a prompt, or a log-probability is not finite.
        """
        after_prompts = list(self._rows(prompts, responses, names))
        alone = [row._replace(prefix=[self._start_id]) for row in after_prompts]
        tokens = {
            (row.prompt, where): len(suffix)
            for row in after_prompts
            for where, suffix in zip(row.where, row.suffixes, strict=True)
        }
        total, unconditional = self._sums(after_prompts), self._sums(alone)
        done: list[list[LogProb | None]] = [[None] * len(own) for own in responses]
        for (prompt, where), count in tokens.items():
            at = prompt, where
            done[prompt][where] = LogProb(total[at], count, unconditional[at])
        return done

    def _rows(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None,
    ) -> Iterator[Row]:
        """Responses after the same ids of a prompt in one row; they may differ at the border."""
        for index, texts in enumerate(self._texts.of(prompts, responses, names)):
            rows: dict[tuple[int, ...], Row] = {}
            for where, ids, of_prompt in texts:
                if len(ids) > of_prompt:
                    prefix = ids[:of_prompt]
                    row = rows.setdefault(tuple(prefix), Row(index, prefix, [], []))
                    row.suffixes.append(ids[of_prompt:])
                    row.where.append(where)
            yield from rows.values()

    def _sums(self, rows: list[Row]) -> dict[tuple[int, int], float]:
        """By prompt and response."""
        sums: dict[tuple[int, int], float] = {}
        with jax.set_mesh(self._mesh):
            for call in calls(rows, self._mesh):
                for row, own in call.own(_log_probs(self._model, call.place(self._mesh))):
                    if not np.isfinite(own).all():
                        raise UserError(
                            "a log-probability is not finite: the model's weights are broken"
                        )
                    of_row = zip(row.where, own, strict=True)
                    sums |= {(row.prompt, where): float(x) for where, x in of_row}
        return sums
