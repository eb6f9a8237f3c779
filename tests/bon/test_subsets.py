import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbs_jax.bon.subsets import SUBSETS, best, drawn, error
from rbs_jax.choose.rule import highest

SCORES = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=7)


def over_all_subsets(scores, n):
    """The slow way: each subset's highest, shared by equal ones, on average."""
    total = np.zeros(len(scores))
    for places in combinations(range(len(scores)), n):
        total[list(places)] += highest(scores[list(places)])
    return total / math.comb(len(scores), n)


@given(SCORES, st.data())
def test_the_closed_form_is_the_mean_over_all_subsets(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    found = best(np.array(scores), n)
    assert found.shape == (1, 1, len(scores))
    np.testing.assert_allclose(found[0, 0], over_all_subsets(np.array(scores), n), atol=1e-12)
    assert found.sum() == pytest.approx(1)


def test_the_closed_form_by_hand():
    # Of three, two are drawn: the highest is there in two of three pairs, the middle one wins one.
    np.testing.assert_allclose(best(np.array([0.0, 5.0, 1.0]), 2)[0, 0], [0, 2 / 3, 1 / 3])
    # Of two that are equal on top, one or both are always there.
    np.testing.assert_allclose(best(np.array([0.0, 5.0, 5.0]), 2)[0, 0], [0, 1 / 2, 1 / 2])


def test_thousands_of_candidates_overflow_nothing():
    found = best(np.arange(5000.0), 2048)[0, 0]
    assert found.sum() == pytest.approx(1)
    assert found[-1] == pytest.approx(2048 / 5000)


@given(st.integers(1, 7), st.data())
def test_all_subsets_are_taken_where_they_are_few(count, data):
    n = data.draw(st.integers(1, count))
    scores = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=count, max_size=count))
    )
    picks = drawn(count, n, lambda places, _: highest(scores[places]), seed=3)
    assert picks.shape[1] == math.comb(count, n)
    np.testing.assert_allclose(picks.mean(axis=(0, 1)), over_all_subsets(scores, n), atol=1e-12)
    assert error(picks @ np.arange(count)) == pytest.approx(0, abs=1e-12)


def test_drawn_subsets_come_near_the_closed_form_within_their_error():
    scores, worth = np.random.default_rng(0).normal(size=(2, 24))
    apart = []
    for seed in range(200):
        picks = drawn(24, 6, lambda places, _: highest(scores[places]), seed)
        assert picks.shape == (SUBSETS, 1, 24)
        values = picks @ worth
        apart.append((values.mean() - (best(scores, 6) @ worth).item()) / error(values))
    assert np.mean(apart) == pytest.approx(0, abs=0.25)
    assert np.std(apart) == pytest.approx(1, abs=0.2)


def test_a_subset_holds_no_candidate_twice():
    seen = []

    def choose(places, _):
        seen.append(places)
        return np.full(places.shape, 1 / places.shape[1])

    drawn(30, 8, choose, seed=0)
    assert all(len(set(own)) == 8 for own in seen[0])
    assert len({tuple(sorted(own)) for own in seen[0]}) > SUBSETS / 2


def test_the_same_subsets_are_drawn_for_every_rule():
    a = drawn(30, 8, lambda places, _: highest(np.arange(30.0)[places]), seed=5)
    b = drawn(30, 8, lambda places, _: highest(np.arange(30.0)[places]), seed=5)
    np.testing.assert_array_equal(a, b)
    other = drawn(30, 8, lambda places, _: highest(np.arange(30.0)[places]), seed=6)
    assert (a != other).any()


def test_what_a_rule_draws_itself_is_part_of_the_error():
    def coin(places, chance):
        return np.eye(2)[chance.integers(2, size=len(places))]

    values = drawn(2, 2, coin, seed=0) @ np.array([0.0, 1.0])
    assert values.shape == (SUBSETS, 1)
    assert error(values) == pytest.approx(0.5 / math.sqrt(SUBSETS), rel=0.1)
    values = drawn(3, 2, lambda places, chance: np.eye(2)[chance.integers(2, size=len(places))], 0)
    values = values @ np.array([0.0, 1.0, 1.0])
    assert values.shape == (SUBSETS // 3, 3)
    # Of the three pairs two are coins and one is worth 1 in any case.
    spread = math.sqrt(2 / 3 * 0.25 / values.size)
    assert error(values) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(("n", "count"), [(512, 64), (700, 34), (1449, 8)])
def test_fewer_large_subsets_are_drawn(n, count):
    def first(places, _):
        return np.eye(1, places.shape[1]).repeat(len(places), 0)

    assert drawn(1500, n, first, seed=0).shape == (count, 1, 1500)
