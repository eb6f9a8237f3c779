"""Blocks to grids: which suffix is true, and which count as its negatives."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from rbs_jax.data.split import Halves
from rbs_jax.errors import UserError
from rbs_jax.shapes import GridBatch, TokenGrid


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """How many blocks make a grid, how many grids a step, and which blocks meet."""

    prefixes: int = 16
    """B: prefixes of a grid, and as many suffixes."""
    grids_per_step: int = 1
    """Independent grids of a step; their gradients are averaged."""
    order: Literal["shuffled", "windows", "corpus"] = "shuffled"
    """A fresh order every epoch: of all blocks, or within windows of a few shards (for a remote
    corpus larger than its cache); or the corpus's own, neighbours together (the paper's code).
    """
    window: int = 65536
    """Blocks of a window, about: whole shards. The cache should hold two windows."""
    same_document: Literal["mask", "keep", "seek"] = "mask"
    """Suffixes of the prefix's own document, which may be true continuations: no negatives;
    negatives like others; or sought out, every grid a run of neighbouring blocks.
    """
    negatives_per_prefix: int | None = None
    """Negatives that count, drawn anew for each prefix; None for all. Saves no time."""
    permute_positives: bool = False
    """A check on honesty: each true suffix is that of another block, so nothing can be learnt."""

    def __post_init__(self) -> None:
        if self.prefixes < 2:
            raise UserError(f"grid.prefixes is {self.prefixes}: a negative needs at least 2")
        if self.grids_per_step < 1:
            raise UserError(f"grid.grids_per_step is {self.grids_per_step}, it must be at least 1")
        if self.window < 1:
            raise UserError(f"grid.window is {self.window}, it must be at least 1")
        wanted = self.negatives_per_prefix
        if wanted is not None and not 1 <= wanted < self.prefixes:
            raise UserError(
                f"grid.negatives_per_prefix is {wanted}, it must be at least 1 and below "
                f"grid.prefixes {self.prefixes}"
            )


def make_batch(halves: Halves, negatives: Bool[np.ndarray, "G P S"]) -> GridBatch:
    """Cut blocks [G * P] to grids: every suffix after every prefix, its own the true one."""
    grids, prefixes, _ = negatives.shape
    tokens = TokenGrid(
        prefixes=halves.prefixes.reshape(grids, prefixes, -1),
        prefix_lengths=halves.prefix_lengths.reshape(grids, prefixes),
        suffixes=halves.suffixes.reshape(grids, prefixes, -1),
        suffix_lengths=np.full((grids, prefixes), halves.suffixes.shape[-1], np.int32),
    )
    positive_GP = np.tile(np.arange(prefixes, dtype=np.int32), (grids, 1))
    return GridBatch(tokens, positive_GP, negatives & ~np.eye(prefixes, dtype=bool))


def same_document(
    of_prefixes: Int[np.ndarray, "B 2"], of_suffixes: Int[np.ndarray, "B 2"], prefixes: int
) -> Bool[np.ndarray, "G P S"]:
    """Which prefixes and suffixes of a grid share a document.

    Args:
      of_prefixes: first and last document of the block that each prefix comes from.
      of_suffixes: the same for suffixes.
      prefixes: prefixes, and suffixes, of a grid.
    """
    of_p = of_prefixes.reshape(-1, prefixes, 1, 2)
    of_s = of_suffixes.reshape(-1, 1, prefixes, 2)
    return (of_p[..., 0] <= of_s[..., 1]) & (of_s[..., 0] <= of_p[..., 1])


def draw_negatives(
    candidates: Bool[np.ndarray, "G P S"], count: int, seeds: Sequence[tuple[int, ...]]
) -> Bool[np.ndarray, "G P S"]:
    """`count` of each prefix's candidates, or all where there are no more, by each grid's seed."""
    draws = np.stack([np.random.default_rng(seed).random(candidates.shape[1:]) for seed in seeds])
    draws = np.where(candidates, draws, np.inf)
    last = np.sort(draws, axis=-1)[..., count - 1 : count]
    return candidates & (draws <= last)
