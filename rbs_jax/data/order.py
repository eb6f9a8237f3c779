"""grid -> its blocks in a corpus, a pure function of (seed, number of the grid)."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Int

from rbs_jax.data.grid import GridConfig

WINDOWS_KEPT = 4
"""Several threads may ask for steps on both sides of a window's end."""


class Order:
    """Which blocks make the grids of each step.

    An epoch takes every block once, cut to whole steps: the few that remain sit
    out that epoch, others each time if it is shuffled. Where neighbours are
    sought, it takes whole runs of blocks instead, a run a grid; blocks behind the
    corpus's last whole run are never used.
    """

    def __init__(self, shards: Sequence[int], grid: GridConfig, seed: int) -> None:
        """`shards` is how many blocks each has, together at least those of one step."""
        self._grid = grid
        self._run = grid.prefixes if grid.same_document == "seek" else 1
        self._units_per_grid = grid.prefixes // self._run
        units = sum(shards) // self._run
        units_per_step = grid.grids_per_step * self._units_per_grid
        self.steps_per_epoch = units // units_per_step
        self._per_epoch = self.steps_per_epoch * units_per_step
        self._windows = None
        if grid.order == "windows":
            # A run across two shards counts as the later one's.
            bounds = np.cumsum([0, *shards]) // self._run
            self._windows = Windows(bounds, max(grid.window // self._run, 1), seed)
        epoch = grain.MapDataset.range(units).seed(seed)
        if grid.order == "shuffled":
            epoch = epoch.shuffle()
        self._units = epoch[: self._per_epoch].repeat()

    def __call__(self, step: int) -> Int[np.ndarray, "G P"]:
        """The blocks of a step's grids, by their number in the corpus."""
        grids = self._grid.grids_per_step
        return np.stack([self.grid(step * grids + number) for number in range(grids)])

    def grid(self, number: int) -> Int[np.ndarray, " P"]:
        """The blocks of one grid, counted from the first of step 0."""
        first = number * self._units_per_grid
        units = [self._unit(first + i) for i in range(self._units_per_grid)]
        return (np.array(units)[:, None] * self._run + np.arange(self._run)).ravel()

    def _unit(self, position: int) -> int:
        if self._windows is None:
            return int(self._units[position])
        return self._windows(*divmod(position, self._per_epoch))


class _Epoch(NamedTuple):
    """What the order of an epoch's shards decides."""

    shards: np.ndarray
    """In that order."""
    first_shards: np.ndarray
    """Of each window, by place in the order, and the number of shards."""
    starts: np.ndarray
    """Of each window, by place in the epoch [units]."""


class Windows:
    """Units in a fresh order every epoch that reads a few shards at a time.

    Shards come in an order of their own; those that follow each other make windows, and
    units are shuffled within their window.
    """

    def __init__(self, bounds: np.ndarray, size: int, seed: int) -> None:
        """Cut nothing yet.

        Args:
          bounds: the first unit of each shard, and the number of units [shards + 1].
          size: about how many units a window has; less or more by up to a shard.
          seed: of all orders.
        """
        self._bounds, self._seed = bounds, seed
        self._count = max(round(int(bounds[-1]) / size), 1)
        self._epoch = functools.lru_cache(WINDOWS_KEPT)(self._draw_epoch)
        self._window = functools.lru_cache(WINDOWS_KEPT)(self._draw_window)

    def __call__(self, epoch: int, position: int) -> int:
        """The unit at a position of an epoch."""
        starts = self._epoch(epoch).starts
        window = int(np.searchsorted(starts, position, side="right")) - 1
        return int(self._window(epoch, window)[position - starts[window]])

    def _draw_epoch(self, epoch: int) -> _Epoch:
        sizes = np.diff(self._bounds)
        shards = np.random.default_rng((self._seed, epoch)).permutation(np.flatnonzero(sizes))
        starts = np.cumsum(sizes[shards]) - sizes[shards]
        windows = starts * self._count // self._bounds[-1]
        first_shards = np.flatnonzero(np.diff(windows, prepend=-1))
        return _Epoch(shards, np.append(first_shards, len(shards)), starts[first_shards])

    def _draw_window(self, epoch: int, window: int) -> np.ndarray:
        order = self._epoch(epoch)
        first, stop = order.first_shards[window : window + 2]
        units = [np.arange(*self._bounds[shard : shard + 2]) for shard in order.shards[first:stop]]
        chance = np.random.default_rng((self._seed, epoch, window))
        return chance.permutation(np.concatenate(units))
