"""Batches from a host's memory to the devices of the mesh."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.stream import Stream
from rbs_jax.shapes import GridBatch, TokenBlocks, TokenGrid
from rbs_jax.sharding import activation_sharding

IN_BATCH = GridBatch(TokenGrid("GPC", "GP", "GST", "GS"), "GP", "GPS")
"""The axes of every array of an in-batch grid."""
BLOCKS = TokenBlocks("GPT", "GPT")
"""The axes of every array of packed blocks."""


def host_grids(mesh: Mesh, grids: int) -> slice:
    """The grids of a step that this host's devices hold, and so this host reads."""
    held = activation_sharding(mesh, "G").addressable_devices_indices_map((grids,))
    bounds = [index[0].indices(grids) for index in held.values() if index is not None]
    return slice(min(start for start, _, _ in bounds), max(stop for _, stop, _ in bounds))


def place(letters: Any, batch: Any, mesh: Mesh, grids: int) -> Any:
    """Spread a record of arrays over the mesh, given this host's slice of its `grids` grids.

    Args:
      letters: the same record, holding each array's axes; the first is G.
      batch: the host's arrays.
      mesh: where to.
      grids: grids of the whole batch, over all hosts.
    """
    first = host_grids(mesh, grids).start

    def spread(letters: str, local: np.ndarray) -> jax.Array:
        def shard(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            start, stop, _ = index[0].indices(grids)
            return local[(slice(start - first, stop - first), *index[1:])]

        shape = (grids, *local.shape[1:])
        return jax.make_array_from_callback(shape, activation_sharding(mesh, letters), shard)

    return jax.tree.map(spread, letters, batch)


def place_whole(letters: Any, batch: Any, mesh: Mesh, grids: int) -> Any:
    """As `place`, given all `grids` grids in every process."""
    own = host_grids(mesh, grids)
    return place(letters, jax.tree.map(lambda x: x[own], batch), mesh, grids)


class Feed:
    """Batches of steps start to stop - 1 on the devices; `waited` counts seconds spent waiting."""

    def __init__(self, stream: Stream[Any], mesh: Mesh, grids: int, start: int, stop: int) -> None:
        self._mesh, self._grids = mesh, grids
        self._batches = stream.read(start, stop, host_grids(mesh, grids))
        self.waited = 0.0

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                began = time.perf_counter()
                batch = next(self._batches, None)
                self.waited += time.perf_counter() - began
                if batch is None:
                    return
                letters = IN_BATCH if isinstance(batch, GridBatch) else BLOCKS
                yield place(letters, batch, self._mesh, self._grids)
        finally:
            self._batches.close()  # its threads must not outlive the run
