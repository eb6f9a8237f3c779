"""Texts to rewards: the single door, through the same `score_grid` as training."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.template import Prompt, Template
from rbs_jax.errors import UserError
from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import on_all
from rbs_jax.train.feed import place_whole
from rbs_jax.train.models import LoadedModel

OWN_SUFFIXES = TokenGrid("GPC", "GP", "GPST", "GPS")
"""The axes of a grid in which every prefix has suffixes of its own."""
TOKENS_PER_CALL = 16_384
"""Tokens scored at once, padding included, as long as one prompt needs no more."""


class _Row(NamedTuple):
    """One prompt's responses as ids, their common start split off."""

    prefix: list[int]
    suffixes: list[list[int]]
    where: list[int]
    """Position of each suffix among the prompt's responses."""


class _Bucket(NamedTuple):
    """Padded sizes, powers of two, so that few shapes are compiled."""

    prefix: int
    suffixes: int
    suffix: int


class Scorer:
    """Rewards of responses to prompts.

    Prompt and response are made one text by the template that training saw, and
    tokenised as one. What a prompt's responses have in common at their start is
    encoded once; sharing never changes a score.
    """

    def __init__(self, loaded: LoadedModel, mesh: Mesh) -> None:
        """Raises UserError: a language model, or a template that its tokenizer lacks."""
        if not isinstance(loaded.model, RewardModel):
            raise UserError("a language model has no rewards: train a reward model from it first")
        self._model, self._mesh, self._bos_id = loaded.model, mesh, loaded.tokens.bos_id
        self._template = Template(loaded.experiment.template, loaded.tokens)
        self._context = loaded.experiment.model.max_positions
        self._score = jax.jit(lambda model, tokens: on_all(score_grid(model, tokens)))

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
        scores: list[list[float | None]] = [[None] * len(own) for own in responses]
        buckets: dict[_Bucket, list[tuple[int, _Row]]] = defaultdict(list)
        for index, (prompt, own) in enumerate(zip(prompts, responses, strict=True)):
            try:
                whole = self._row(prompt, own)
            except UserError as error:
                raise UserError(
                    f"{names[index] if names else f'prompt {index}'}: {error}"
                ) from error
            for row in _in_pieces(whole):
                buckets[_bucket_of(row)].append((index, row))
        for bucket, rows in sorted(buckets.items()):
            for index, row, rewards in self._run(bucket, rows):
                for where, reward in zip(row.where, rewards, strict=False):
                    if not np.isfinite(reward):
                        raise UserError("a reward is not finite: the model's weights are broken")
                    scores[index][where] = float(reward)
        return scores

    def _row(self, prompt: Prompt, responses: Sequence[str]) -> _Row:
        texts, where = [], []
        for position, response in enumerate(responses):
            ids, of_prompt = self._template.encode(prompt, response)
            kept = 1 if ids and ids[0] == self._bos_id else 0
            over = max(len(ids) - self._context, 0)
            if ids and (over == 0 or over <= of_prompt - kept):
                texts.append(ids[:kept] + ids[kept + over :])
                where.append(position)
        shared = _common_start(texts)
        prefix = texts[0][:shared] if texts else []
        return _Row(prefix, [ids[shared:] for ids in texts], where)

    def _run(
        self, bucket: _Bucket, rows: list[tuple[int, _Row]]
    ) -> list[tuple[int, _Row, np.ndarray]]:
        """Score rows of one bucket, as many prompts a call as TOKENS_PER_CALL admits."""
        grids, step = self._mesh.shape["data"], self._mesh.shape["data"] * self._mesh.shape["fsdp"]
        per_prompt = bucket.prefix + bucket.suffixes * bucket.suffix
        prompts = max(TOKENS_PER_CALL // per_prompt // step, 1) * step
        done = []
        for at in range(0, len(rows), prompts):
            part = rows[at : at + prompts]
            grid = _grid(bucket, [row for _, row in part], prompts, grids)
            placed = place_whole(OWN_SUFFIXES, grid, self._mesh, grids)
            rewards = np.asarray(self._score(self._model, placed)).reshape(prompts, -1)
            done += [(index, row, rewards[i]) for i, (index, row) in enumerate(part)]
        return done


def _common_start(texts: list[list[int]]) -> int:
    """How many ids all texts share at their start, leaving each at least one of its own."""
    if not texts:
        return 0
    shortest, longest = min(texts), max(texts)  # in order, these two differ first
    limit = min(len(ids) for ids in texts) - 1
    same = 0
    while same < limit and shortest[same] == longest[same]:
        same += 1
    return same


def _in_pieces(row: _Row) -> Iterator[_Row]:
    """The row, its suffixes divided so that one call need not hold more than TOKENS_PER_CALL."""
    longest = max(map(len, row.suffixes), default=0)
    most = max(TOKENS_PER_CALL // _power_of_two(max(longest, 16)), 1)
    for at in range(0, len(row.suffixes), most):
        yield _Row(row.prefix, row.suffixes[at : at + most], row.where[at : at + most])


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _bucket_of(row: _Row) -> _Bucket:
    return _Bucket(
        max(_power_of_two(len(row.prefix)), 16),
        _power_of_two(len(row.suffixes)),
        max(_power_of_two(max(map(len, row.suffixes))), 16),
    )


def _grid(bucket: _Bucket, rows: list[_Row], prompts: int, grids: int) -> TokenGrid:
    """Rows padded to the bucket; missing rows and suffixes are one padding id long."""
    prefixes = np.zeros((prompts, bucket.prefix), np.int32)
    prefix_lengths = np.zeros(prompts, np.int32)
    suffixes = np.zeros((prompts, bucket.suffixes, bucket.suffix), np.int32)
    suffix_lengths = np.ones((prompts, bucket.suffixes), np.int32)
    for p, row in enumerate(rows):
        prefixes[p, : len(row.prefix)] = row.prefix
        prefix_lengths[p] = len(row.prefix)
        for s, ids in enumerate(row.suffixes):
            suffixes[p, s, : len(ids)] = ids
            suffix_lengths[p, s] = len(ids)
    arrays = prefixes, prefix_lengths, suffixes, suffix_lengths
    return TokenGrid(*(array.reshape(grids, -1, *array.shape[1:]) for array in arrays))
