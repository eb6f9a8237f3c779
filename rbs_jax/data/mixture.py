"""step -> the blocks of its grids in several corpora, a pure function of (seed, step)."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.order import Order
from rbs_jax.data.reader import Corpus

CYCLE = 100_000
"""Grids after which the corpora's turns repeat, about; each has one turn in them at least."""


class Drawn(NamedTuple):
    """Where the blocks of some grids come from."""

    corpora: Int[np.ndarray, " G"]
    """The corpus of each grid."""
    blocks: Int[np.ndarray, "G P"]
    """Their numbers in that corpus."""


class Mixture:
    """Which blocks of which corpus make the grids of each step.

    Each grid comes from one corpus, so that negatives are of the positive's own kind.
    Corpora take turns as evenly as their weights allow, the same turns whatever the seed,
    and each has epochs of its own.
    """

    def __init__(
        self,
        corpora: Sequence[Sequence[int]],
        weights: Sequence[float],
        grid: GridConfig,
        seed: int,
    ) -> None:
        """Draw nothing yet.

        Args:
          corpora: the blocks of each one's shards, enough for a grid; of one alone for a step.
          weights: each corpus's share of grids, of any sum; empty for its share of blocks.
          grid: how many blocks make a grid, and in which order a corpus's are taken.
          seed: of every corpus's order.
        """
        self._grid, several = grid, len(corpora) > 1
        own = dataclasses.replace(grid, grids_per_step=1) if several else grid
        self._orders = [Order(shards, own, seed) for shards in corpora]
        sizes = [sum(shards) for shards in corpora]
        blocks_per_step = grid.prefixes * grid.grids_per_step
        self.steps_per_epoch = self._orders[0].steps_per_epoch
        if several:
            self.steps_per_epoch = max(sum(sizes) // blocks_per_step, 1)
        self._turns = turns(sizes, weights)
        of = np.repeat(np.arange(len(sizes)), self._turns)
        own_number = np.concatenate([np.arange(count) for count in self._turns])
        when = (own_number + 0.5) / np.repeat(self._turns, self._turns)
        cycle = np.argsort(when, kind="stable")
        self._corpus_at, self._number_at = of[cycle], own_number[cycle]

    def __call__(self, step: int, grids: slice = slice(None)) -> Drawn:
        """The blocks of a step, or of a slice of its grids."""
        per_step = self._grid.grids_per_step
        numbers = range(step * per_step, (step + 1) * per_step)[grids]
        turned = [self._turn(number) for number in numbers]
        blocks = [self._orders[corpus].grid(number) for corpus, number in turned]
        return Drawn(np.array([corpus for corpus, _ in turned]), np.stack(blocks))

    def _turn(self, number: int) -> tuple[int, int]:
        """The corpus of a grid, and which of that corpus's grids it is."""
        cycles, at = divmod(number, len(self._corpus_at))
        corpus = int(self._corpus_at[at])
        return corpus, cycles * self._turns[corpus] + int(self._number_at[at])


def turns(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How many grids of a cycle come from each corpus, given its blocks and its weight."""
    if len(sizes) == 1:
        return [1]
    parts = np.array(weights or sizes, float)
    return np.maximum(np.rint(parts / parts.sum() * CYCLE), 1).astype(int).tolist()


def fingerprint(corpora: Sequence[Corpus], weights: Sequence[float]) -> str:
    """Of corpora and their turns; of one alone its own."""
    if len(corpora) == 1:
        return corpora[0].manifest.fingerprint
    parts = zip(corpora, turns([*map(len, corpora)], weights), strict=True)
    lines = [f"{corpus.manifest.fingerprint} {count}" for corpus, count in parts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
