"""What grids of a corpus show: the share that is masked, and pairs with their hardest negatives."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.stream import GridStream
from rbs_jax.data.tokens import Tokens
from rbs_jax.shapes import GridBatch
from rbs_jax.train.heldout import word_overlap

GRIDS = 64
"""Grids that the masked share is counted over, or the few more of whole steps."""


def masked(corpus: Corpus, split: SplitConfig, grid: GridConfig, seed: int) -> dict[str, Any]:
    """What `same_document: mask` takes out of the first training grids.

    Where neighbours are kept or sought it takes out nothing, and this says what it
    would of the grids in a shuffled or the corpus's order.

    Returns:
      "grids", "prefixes" (of each) and "rows" (in all) counted; "masked": pairs of a
      prefix with another block's suffix that it takes out; "rows_without_negative".

    Raises:
      UserError: the corpus is too small for one step, or holds one document.
    """
    masking = dataclasses.replace(
        grid, same_document="mask", negatives_per_prefix=None, permute_positives=False
    )
    stream = GridStream([corpus], split, masking, seed)
    steps = min(stream.steps_per_epoch, math.ceil(GRIDS / grid.grids_per_step))
    kept = empty = 0
    for step in range(steps):
        left = stream.batch(step).negatives.sum(axis=-1)
        kept += int(left.sum())
        empty += int((left == 0).sum())
    rows = steps * grid.grids_per_step * grid.prefixes
    return {
        "grids": steps * grid.grids_per_step,
        "prefixes": grid.prefixes,
        "masked": rows * (grid.prefixes - 1) - kept,
        "rows": rows,
        "rows_without_negative": empty,
    }


def show_pairs(
    corpus: Corpus, split: SplitConfig, grid: GridConfig, seed: int, count: int
) -> list[dict[str, Any]]:
    """Prefixes of the first epoch, evenly spread, each with its true suffix and hardest negative.

    The hardest is the one of its grid that shares the most words with it.

    Returns:
      for each "step", "grid" and "row", "prefix", "suffix", "overlap" (`word_overlap` of the
      two), "negatives" (how many count), "hardest" and "hardest_overlap", None without any.

    Raises:
      UserError: the corpus is too small for one step, or holds one document.
    """
    stream = GridStream([corpus], split, grid, seed)
    shape = (stream.steps_per_epoch, grid.grids_per_step, grid.prefixes)
    count = min(count, math.prod(shape))
    rows = np.arange(count) * math.prod(shape) // max(count, 1)
    tokens = corpus.tokens()
    return [
        {"step": step, "grid": g, "row": row, **_pair(tokens, stream.batch(step), g, row)}
        for step, g, row in np.transpose(np.unravel_index(rows, shape)).tolist()
    ]


def _pair(tokens: Tokens, batch: GridBatch, grid: int, row: int) -> dict[str, Any]:
    prefix = batch.tokens.prefixes[grid, row, : batch.tokens.prefix_lengths[grid, row]]
    suffixes, true = batch.tokens.suffixes[grid], int(batch.positive[grid, row])
    negatives = batch.negatives[grid, row]
    texts = tokens.decode([prefix.tolist(), *suffixes.tolist()])
    overlap = word_overlap(texts[:1], texts[1:], len(suffixes))[0, 0]
    hardest = int(np.where(negatives, overlap, -1).argmax()) if negatives.any() else None
    return {
        "prefix": with_ends(tokens, prefix.tolist()),
        "suffix": with_ends(tokens, suffixes[true].tolist()),
        "overlap": float(overlap[true]),
        "negatives": int(negatives.sum()),
        "hardest": None if hardest is None else with_ends(tokens, suffixes[hardest].tolist()),
        "hardest_overlap": None if hardest is None else float(overlap[hardest]),
    }


def with_ends(tokens: Tokens, ids: Sequence[int]) -> str:
    """The text of ids, in which the end of a document stands by its name."""
    ends = [at for at, token in enumerate(ids) if token == tokens.end_id]
    starts = [0, *(end + 1 for end in ends)]
    stops = [*ends, len(ids)]
    texts = [ids[start:stop] for start, stop in zip(starts, stops, strict=True)]
    return tokens.end.join(tokens.decode(texts))
