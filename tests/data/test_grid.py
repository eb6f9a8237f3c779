import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbs_jax.data.grid import GridConfig, draw_negatives, make_batch, same_document
from rbs_jax.data.split import Halves
from rbs_jax.errors import UserError


def halves(blocks, longest=5, suffix=3):
    chance = np.random.default_rng(0)
    return Halves(
        chance.integers(99, size=(blocks, longest)).astype(np.int32),
        chance.integers(1, longest + 1, size=blocks).astype(np.int32),
        chance.integers(99, size=(blocks, suffix)).astype(np.int32),
    )


def spans(chance, count):
    first = chance.integers(12, size=count)
    return np.stack([first, first + chance.integers(3, size=count)], axis=1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prefixes": 1}, "grid.prefixes is 1"),
        ({"grids_per_step": 0}, "grid.grids_per_step is 0"),
        ({"negatives_per_prefix": 0}, "grid.negatives_per_prefix is 0"),
        ({"prefixes": 4, "negatives_per_prefix": 4}, "negatives_per_prefix is 4.*prefixes 4"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(wrong, said):
    with pytest.raises(UserError, match=said):
        GridConfig(**wrong)


def test_the_smallest_grid_and_its_one_negative_are_accepted():
    assert GridConfig(2, 1, negatives_per_prefix=1).negatives_per_prefix == 1
    assert GridConfig(4, 1, negatives_per_prefix=3).negatives_per_prefix == 3


def test_a_batch_cuts_blocks_to_grids_in_their_order():
    of = halves(12)
    batch = make_batch(of, np.ones((3, 4, 4), bool))
    for grid in range(3):
        rows = slice(4 * grid, 4 * grid + 4)
        np.testing.assert_array_equal(batch.tokens.prefixes[grid], of.prefixes[rows])
        np.testing.assert_array_equal(batch.tokens.prefix_lengths[grid], of.prefix_lengths[rows])
        np.testing.assert_array_equal(batch.tokens.suffixes[grid], of.suffixes[rows])
        np.testing.assert_array_equal(batch.positive[grid], [0, 1, 2, 3])
    assert batch.tokens.prefixes.shape == (3, 4, 5)
    assert batch.positive.shape == (3, 4)


def test_every_suffix_of_a_batch_is_whole():
    lengths = make_batch(halves(12, suffix=7), np.ones((3, 4, 4), bool)).tokens.suffix_lengths
    np.testing.assert_array_equal(lengths, np.full((3, 4), 7))


def test_the_diagonal_is_never_a_negative_and_the_rest_is_as_told():
    told = np.random.default_rng(1).random((3, 4, 4)) < 0.5
    assert np.diagonal(told, axis1=1, axis2=2).any()
    negatives = make_batch(halves(12), told).negatives
    assert not np.diagonal(negatives, axis1=1, axis2=2).any()
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_array_equal(negatives[:, off], told[:, off])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 5))
def test_documents_are_shared_where_the_sets_of_both_blocks_meet(seed, grids, prefixes):
    chance = np.random.default_rng(seed)
    of_p, of_s = spans(chance, grids * prefixes), spans(chance, grids * prefixes)
    sets_p, sets_s = ([set(range(a, b + 1)) for a, b in of.tolist()] for of in (of_p, of_s))
    expected = [
        [[bool(sets_p[g + i] & sets_s[g + j]) for j in range(prefixes)] for i in range(prefixes)]
        for g in range(0, grids * prefixes, prefixes)
    ]
    np.testing.assert_array_equal(same_document(of_p, of_s, prefixes), expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_just_the_count_is_drawn_and_of_candidates_alone(seed, count):
    candidates = np.random.default_rng(seed).random((2, 6, 6)) < 0.6
    drawn = draw_negatives(candidates, count, [(seed, 0), (seed, 1)])
    assert not (drawn & ~candidates).any()
    np.testing.assert_array_equal(drawn.sum(axis=-1), np.minimum(count, candidates.sum(axis=-1)))


def test_candidates_are_drawn_about_equally_often_in_every_row():
    candidates = np.ones((500, 4, 6), bool)
    candidates[..., 5] = False
    drawn = draw_negatives(candidates, 2, [(7, grid) for grid in range(500)])
    often = drawn.mean(axis=0)
    assert (np.abs(often[:, :5] - 2 / 5) < 0.1).all()
    assert not often[:, 5].any()


def test_each_grid_is_drawn_by_its_own_seed_and_each_row_for_itself():
    candidates = np.ones((2, 6, 6), bool)
    one, other = draw_negatives(candidates, 3, [(0, 0, 0), (0, 0, 1)])
    assert not np.array_equal(one, other)
    assert len({tuple(row) for row in one.tolist()}) > 1
    again = draw_negatives(candidates, 3, [(0, 0, 1), (0, 0, 0)])
    np.testing.assert_array_equal(again, [other, one])
    assert candidates.all()
