"""step -> the blocks of its grids, a pure function of (seed, step)."""

import grain
import numpy as np
from jaxtyping import Int

from rbs_jax.data.grid import GridConfig


class Order:
    """Which blocks make the grids of each step.

    An epoch takes every block once, cut to whole steps: the few that remain sit
    out that epoch, others each time if it is shuffled. Where neighbours are
    sought, it takes whole runs of blocks instead, a run a grid; blocks behind the
    corpus's last whole run are never used.
    """

    def __init__(self, blocks: int, grid: GridConfig, seed: int) -> None:
        """`blocks` is how many the corpus holds, at least those of one step."""
        self._grid = grid
        self._run = grid.prefixes if grid.same_document == "seek" else 1
        units = blocks // self._run
        self._units_per_step = grid.grids_per_step * grid.prefixes // self._run
        self.steps_per_epoch = units // self._units_per_step
        epoch = grain.MapDataset.range(units).seed(seed)
        if grid.order == "shuffled":
            epoch = epoch.shuffle()
        self._units = epoch[: self.steps_per_epoch * self._units_per_step].repeat()

    def __call__(self, step: int) -> Int[np.ndarray, "G P"]:
        """The blocks of a step's grids, by their number in the corpus."""
        first = step * self._units_per_step
        units = [int(self._units[first + i]) for i in range(self._units_per_step)]
        blocks = np.array(units)[:, None] * self._run + np.arange(self._run)
        return blocks.reshape(self._grid.grids_per_step, self._grid.prefixes)
