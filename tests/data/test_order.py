import itertools

import numpy as np
import pytest

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
