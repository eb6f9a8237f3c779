import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.order import Order

BLOCKS = 45
SHUFFLED = GridConfig(4, 2)
IN_ORDER = GridConfig(4, 2, order="corpus")
SEEK = GridConfig(4, 2, same_document="seek")
SEEK_IN_ORDER = GridConfig(4, 2, order="corpus", same_document="seek")
EVERY = pytest.mark.parametrize("grid", [SHUFFLED, IN_ORDER, SEEK, SEEK_IN_ORDER])


def epochs(order, count):
    """The grids of each epoch, [epochs, grids, prefixes]."""
    steps = order.steps_per_epoch
    return np.array([[order(e * steps + s) for s in range(steps)] for e in range(count)]).reshape(
        count, -1, 4
    )


@EVERY
def test_an_epoch_takes_no_block_twice_and_leaves_less_than_a_step(grid):
    order = Order([BLOCKS], grid, seed=0)
    assert order.steps_per_epoch == 5
    for epoch in epochs(order, 3):
        assert len(set(epoch.ravel().tolist())) == epoch.size == 40
        assert epoch.min() >= 0
        assert epoch.max() < BLOCKS


@pytest.mark.parametrize("blocks", [8, 9, 15, 16])
@EVERY
def test_steps_of_an_epoch_are_as_many_as_the_blocks_fill(grid, blocks):
    assert Order([blocks], grid, seed=0).steps_per_epoch == blocks // 8


@EVERY
def test_a_step_has_its_grids_whatever_was_asked_before(grid):
    order = Order([BLOCKS], grid, seed=3)
    forward = [order(step) for step in range(12)]
    assert all(blocks.shape == (2, 4) for blocks in forward)
    for step in reversed(range(12)):
        np.testing.assert_array_equal(order(step), forward[step])
        np.testing.assert_array_equal(Order([BLOCKS], grid, seed=3)(step), forward[step])


@pytest.mark.parametrize("grid", [SHUFFLED, SEEK])
def test_shuffled_epochs_and_seeds_all_differ(grid):
    orders = [
        epoch.ravel().tolist()
        for seed in (0, 1)
        for epoch in epochs(Order([BLOCKS], grid, seed), 3)
    ]
    assert all(one != other for one, other in itertools.combinations(orders, 2))
    assert all(order != sorted(order) for order in orders)


def test_shuffled_no_block_sits_out_always():
    assert set(epochs(Order([BLOCKS], SHUFFLED, seed=0), 8).ravel().tolist()) == set(range(BLOCKS))


def test_shuffled_neighbours_are_scattered():
    gaps = np.diff(epochs(Order([BLOCKS], SHUFFLED, seed=0), 3))
    assert (gaps == 1).mean() < 0.2


@pytest.mark.parametrize("grid", [IN_ORDER, SEEK_IN_ORDER])
def test_in_the_corpus_own_order_every_epoch_is_the_first_blocks_one_after_another(grid):
    for seed in (0, 1):
        for epoch in epochs(Order([BLOCKS], grid, seed), 3):
            np.testing.assert_array_equal(epoch.ravel(), np.arange(40))


def test_seeking_makes_each_grid_a_run_of_neighbours_used_once_an_epoch():
    seen = set()
    for epoch in epochs(Order([BLOCKS], SEEK, seed=0), 8):
        first = epoch[:, 0]
        np.testing.assert_array_equal(epoch, first[:, None] + np.arange(4))
        assert not (first % 4).any()
        assert len(set(first.tolist())) == 10
        seen |= set(first.tolist())
    assert seen == set(range(0, 44, 4)), "a run that sits out always"


def test_the_order_of_runs_begun_before_is_kept():
    """Numbers of the first version: a run that resumes goes on with its own blocks."""
    order, seek = Order([BLOCKS], SHUFFLED, seed=0), Order([BLOCKS], SEEK, seed=0)
    assert order(0).tolist() == [[21, 37, 31, 14], [9, 7, 28, 6]]
    assert order(7).tolist() == [[12, 43, 38, 35], [34, 21, 14, 11]]
    assert seek(7).tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]


WINDOWS = GridConfig(4, 2, order="windows", window=30)
SHARDS = [10, 0, 13, 7, 1, 10, 12, 0, 9, 10, 11, 8]


@given(
    shards=st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(lambda s: sum(s) >= 8),
    window=st.integers(1, 60),
    same_document=st.sampled_from(["mask", "seek"]),
    seed=st.integers(0, 5),
)
def test_an_epoch_in_windows_takes_every_unit_once_whatever_the_shards(
    shards, window, same_document, seed
):
    grid = GridConfig(4, 1, order="windows", same_document=same_document, window=window)
    order = Order(shards, grid, seed)
    assert order.steps_per_epoch == sum(shards) // 4
    for epoch in epochs(order, 2):
        assert len(set(epoch.ravel().tolist())) == epoch.size == sum(shards) // 4 * 4
        assert epoch.min() >= 0
        assert epoch.max() < sum(shards)
        if same_document == "seek":
            np.testing.assert_array_equal(epoch, epoch[:, :1] + np.arange(4))
            assert not (epoch[:, 0] % 4).any()


def test_in_windows_a_step_is_the_same_whatever_was_asked_before():
    order = Order(SHARDS, WINDOWS, seed=3)
    steps = range(3 * order.steps_per_epoch)
    forward = [order(step) for step in steps]
    for step in reversed(steps):
        np.testing.assert_array_equal(order(step), forward[step])
    np.testing.assert_array_equal(Order(SHARDS, WINDOWS, seed=3)(20), forward[20])
    assert not np.array_equal(Order(SHARDS, WINDOWS, seed=4)(20), forward[20])


def test_in_windows_a_shard_is_read_within_one_stretch_of_an_epoch_and_blocks_mix_there():
    order, of = Order(SHARDS, WINDOWS, seed=0), np.repeat(np.arange(len(SHARDS)), SHARDS)
    begun = set()
    for epoch in epochs(order, 6):
        shards = of[epoch.ravel()]
        for shard in set(shards.tolist()):
            at = np.flatnonzero(shards == shard)
            assert at[-1] - at[0] < 30 + 2 * max(SHARDS), "farther apart than a window"
        begun |= set(shards[:10].tolist())
        assert np.mean([len(set(grid.tolist())) for grid in of[epoch]]) > 2, "shards should mix"
        assert (np.diff(epoch.ravel()) == 1).mean() < 0.2
    assert len(begun) > 5, "epochs should begin with other shards"
    one, other = epochs(Order([BLOCKS], WINDOWS, seed=0), 2)
    assert not np.array_equal(one, other), "epochs should shuffle a window anew"
    assert set(epochs(order, 6).ravel().tolist()) == set(range(sum(SHARDS)))
