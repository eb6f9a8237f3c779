"""The largest tile whose step fits the memory that is free, found by compiling."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import psutil

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.hosts.together import all_say
from rbs_jax.model.language import LanguageModel
from rbs_jax.train.step import Step
from rbs_jax.train.tile import TileConfig

SHARE = {"cpu": 0.5}
"""Of the free memory that a step's temporaries may take: a CPU's serves other programs too."""
ELSEWHERE = 0.9
CPU_TOKENS = 2048
"""Suffix tokens that a CPU's tile holds at most where rows are to spare: more run slower, as
their arrays leave the caches."""
GIGABYTE = 1e9


class Fitted(NamedTuple):
    """A compiled step and its tile."""

    tile: TileConfig
    step: Step


def fit(
    experiment: Experiment, step_of: Callable[[TileConfig], Any], state: Any, batch: Any
) -> Fitted:
    """The step of the config's tile, or where it leaves that open, of the largest that fits.

    Args:
      experiment: whose tile it is.
      step_of: the step, to be compiled, of a tile.
      state: what the step will be called with; only shapes and shardings are read.
      batch: the same.

    Raises:
      UserError: not even the smallest tile fits.
    """
    if experiment.tile != TileConfig():
        return Fitted(experiment.tile, step_of(experiment.tile).lower(state, batch).compile())
    on_this_host = math.prod(experiment.mesh.sizes) // jax.process_count()
    free = min(all_say(free_memory(on_this_host)))  # every host is to find the same tile
    measured: tuple[int, int] | None = None
    for tile in tiles(experiment, jax.devices()[0].platform == "cpu"):
        size = area(experiment, tile)
        # A step holds something beside its tile, so it shrinks by less than the tile does.
        if measured is not None and measured[1] * size > free * measured[0]:
            continue
        try:
            compiled = step_of(tile).lower(state, batch).compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            continue
        measured = size, _temporaries(compiled)
        if measured[1] <= free:
            rows = f"{tile.prefixes} prefixes with {tile.suffixes} suffixes"
            print(
                f"tile: {rows if tile.suffixes else f'{tile.prefixes} blocks'} at a time, "
                f"{measured[1] / GIGABYTE:.2f} GB a device beside the state, "
                f"{free / GIGABYTE:.2f} GB allowed",
                flush=True,
            )
            return Fitted(tile, compiled)
    least = "" if measured is None else f" ({measured[1] / GIGABYTE:.2f} GB)"
    raise UserError(
        f"no step fits the {free / GIGABYTE:.2f} GB that one may take here, not even the "
        f"smallest{least}: take --model.remat full, a smaller model or more devices"
    )


def _temporaries(compiled: Any) -> int:
    """What a compiled step holds at most beside its arguments [bytes a device]."""
    stats = compiled.memory_analysis()
    if jax.devices()[0].platform == "tpu":  # whose temporaries may exceed what it has
        return int(stats.peak_memory_in_bytes - stats.argument_size_in_bytes)
    return int(stats.temp_size_in_bytes)


def free_memory(devices: int) -> int:
    """What a step's temporaries may take on each of a host's devices [bytes]."""
    device = jax.local_devices()[0]
    share = SHARE.get(device.platform, ELSEWHERE)
    stats = device.memory_stats()
    if device.platform == "cpu" or stats is None:
        return int(share * psutil.virtual_memory().available / devices)
    return int(share * (stats["bytes_limit"] - stats["bytes_in_use"]))


def tiles(experiment: Experiment, on_cpu: bool) -> Iterator[TileConfig]:
    """All that divide the grid, from the largest: whole rows first, then parts of one a device.

    A language model's rows are blocks, taken to be as long as the config's prefix and suffix.
    """
    suffixes: int | None = experiment.grid.prefixes
    mesh, tokens = experiment.mesh.sizes, experiment.grid.prefixes * experiment.split.suffix_length
    least = mesh.fsdp
    if experiment.kind is LanguageModel:
        suffixes, tokens = None, experiment.split.tokens_used
    tokens_a_row = tokens * experiment.grid.grids_per_step // mesh.data // least
    for rows in _divisors(experiment.prefixes_per_update):
        slow = on_cpu and rows > least and rows * tokens_a_row > CPU_TOKENS
        if rows % least == 0 and not slow:
            yield TileConfig(rows, suffixes)
    if suffixes is not None:
        for some in _divisors(suffixes)[1:]:
            yield TileConfig(least, some)


def _divisors(number: int) -> list[int]:
    return [d for d in range(number, 0, -1) if number % d == 0]


def area(experiment: Experiment, tile: TileConfig) -> int:
    """Pairs of a grid that are scored at a time."""
    suffixes = experiment.grid.prefixes
    return (tile.prefixes or experiment.prefixes_per_update) * (tile.suffixes or suffixes)
