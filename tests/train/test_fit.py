import dataclasses
from typing import NamedTuple

import jax
import pytest

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.sharding import MeshConfig
from rbs_jax.train import fit as fitting
from rbs_jax.train.fit import fit, free_memory, tiles
from rbs_jax.train.tile import TileConfig

GRID = Experiment(grid=GridConfig(prefixes=8), split=SplitConfig(prefix_length=8, suffix_length=8))


class Compiled(NamedTuple):
    """What a compiled step says of its temporaries."""

    temp_size_in_bytes: int

    def lower(self, *_):
        return self

    def compile(self):
        return self

    def memory_analysis(self):
        return self


def fitted(monkeypatch, free, bytes_of, experiment=GRID):
    """The tile, and those that were compiled for it."""
    monkeypatch.setattr(fitting, "free_memory", lambda devices: free // devices)
    asked = []

    def step_of(tile):
        asked.append(tile)
        return Compiled(bytes_of(tile))

    return fit(experiment, step_of, None, None).tile, asked


def area(tile):
    return tile.prefixes * tile.suffixes


def area_of_blocks(tile):
    return tile.prefixes


def test_whole_rows_come_first_then_parts_of_a_row():
    assert [dataclasses.astuple(tile) for tile in tiles(GRID, on_cpu=True)] == [
        *((8, 8), (4, 8), (2, 8), (1, 8)),
        *((1, 4), (1, 2), (1, 1)),
    ]


def test_on_cpu_rows_are_few_where_they_are_long():
    long = dataclasses.replace(GRID, split=SplitConfig(prefix_length=8, suffix_length=64))
    assert [tile.prefixes for tile in tiles(long, on_cpu=True)][:3] == [4, 2, 1]
    assert [tile.prefixes for tile in tiles(long, on_cpu=False)][:2] == [8, 4]
    longer = dataclasses.replace(GRID, split=SplitConfig(prefix_length=8, suffix_length=1024))
    assert [dataclasses.astuple(tile) for tile in tiles(longer, on_cpu=True)][:2] == [
        (1, 8),
        (1, 4),
    ]


def test_a_tile_has_a_prefix_for_every_device_and_none_of_another_update():
    experiment = dataclasses.replace(
        GRID, mesh=MeshConfig(fsdp=2), optim=OptimConfig(prefixes_per_update=4)
    )
    assert [dataclasses.astuple(tile) for tile in tiles(experiment, on_cpu=False)] == [
        *((4, 8), (2, 8)),
        *((2, 4), (2, 2), (2, 1)),
    ]


def test_blocks_of_a_language_model_have_no_suffixes_to_tile():
    experiment = dataclasses.replace(GRID, objective=ObjectiveConfig("causal_lm"))
    assert [dataclasses.astuple(tile) for tile in tiles(experiment, on_cpu=False)] == [
        *((8, None), (4, None), (2, None), (1, None)),
    ]


def test_on_cpu_blocks_are_few_where_they_are_long(monkeypatch, capsys):
    experiment = dataclasses.replace(
        GRID,
        split=SplitConfig(prefix_length=256, suffix_length=256),
        objective=ObjectiveConfig("causal_lm"),
    )
    assert [tile.prefixes for tile in tiles(experiment, on_cpu=True)] == [4, 2, 1]
    assert fitted(monkeypatch, 10**6, area_of_blocks, experiment)[0] == TileConfig(4)
    assert "tile: 4 blocks at a time" in capsys.readouterr().out


def test_the_largest_tile_that_fits_is_taken_and_said(monkeypatch, capsys):
    tile, _ = fitted(monkeypatch, 30, area)
    assert tile == TileConfig(2, 8)
    assert "2 prefixes with 8 suffixes" in capsys.readouterr().out


def test_tiles_that_cannot_fit_are_not_compiled(monkeypatch):
    """What is held beside the tile only makes small ones need more than their share."""
    tile, asked = fitted(monkeypatch, 9, lambda tile: area(tile) + 5)
    assert tile == TileConfig(1, 4)
    assert asked == [TileConfig(8, 8), TileConfig(1, 8), TileConfig(1, 4)]


def test_what_the_compiler_finds_too_large_is_passed_over(monkeypatch):
    def bytes_of(tile):
        if tile.prefixes > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return 1

    assert fitted(monkeypatch, 9, bytes_of)[0] == TileConfig(2, 8)


def test_where_nothing_fits_the_user_is_told(monkeypatch):
    with pytest.raises(UserError, match=r"no step fits the 0\.00 GB .*--model\.remat full"):
        fitted(monkeypatch, 9, lambda _: 10)


def test_a_given_tile_is_taken_whatever_it_needs(monkeypatch):
    given = dataclasses.replace(GRID, tile=TileConfig(4, 2))
    assert fitted(monkeypatch, 9, lambda _: 10, given) == (TileConfig(4, 2), [TileConfig(4, 2)])


def test_all_hosts_take_the_tile_that_fits_the_one_with_least_memory(monkeypatch):
    alone, _ = fitted(monkeypatch, 64, area)
    monkeypatch.setattr(fitting, "all_say", lambda free: [free, 20])
    assert area(alone) == 64
    assert area(fitted(monkeypatch, 64, area)[0]) == 16


def test_on_cpu_the_devices_share_half_of_the_free_memory(monkeypatch):
    class Memory(NamedTuple):
        available: int = 160

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    assert free_memory(devices=4) == 160 // 2 // 4


def test_idle_devices_have_no_share(monkeypatch):
    """Of the eight that tests simulate, the mesh has two."""
    experiment = dataclasses.replace(GRID, mesh=MeshConfig(fsdp=2))
    assert fitted(monkeypatch, 32, area, experiment)[0] == TileConfig(2, 8)


@pytest.mark.parametrize(
    ("tile", "said"),
    [
        (TileConfig(3), r"tile\.prefixes 3 does not divide the prefixes of an update 8"),
        (TileConfig(suffixes=5), r"tile\.suffixes 5 does not divide grid\.prefixes 8"),
    ],
)
def test_a_tile_that_does_not_divide_is_refused(tile, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(GRID, tile=tile)


def test_a_tile_without_a_prefix_for_each_device_is_refused():
    with pytest.raises(UserError, match=r"mesh\.fsdp 4 does not divide tile\.prefixes 2"):
        dataclasses.replace(GRID, tile=TileConfig(2), mesh=MeshConfig(fsdp=4))
