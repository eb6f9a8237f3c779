import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rbs_jax.choose.answers import majority, strengths, weighted
from tests.choose.drawn import INF


def test_majority_by_hand():
    assert majority(np.array([7, 3, 7, -1])).tolist() == [0.5, 0, 0.5, 0]
    # 0 and 5 have two votes each: a half for each answer, a quarter for each candidate.
    assert majority(np.array([0, 5, 1, 5, 0])).tolist() == [0.25, 0.25, 0, 0.25, 0.25]
    assert majority(np.array([-1, -1, -1, 4])).tolist() == [0, 0, 0, 1]
    assert majority(np.array([-1, -1])).tolist() == [0.5, 0.5]


def elected(answers):
    """As a teller would: count, take the largest, share."""
    counts = Counter(answer for answer in answers if answer >= 0)
    if not counts:
        return [1 / len(answers)] * len(answers)
    winners = [answer for answer, count in counts.items() if count == max(counts.values())]
    return [(answer in winners) / len(winners) / max(counts[answer], 1) for answer in answers]


def test_majority_of_every_small_case():
    for candidates in range(1, 6):
        cases = np.array(list(itertools.product(range(-1, 3), repeat=candidates)))
        found = majority(cases)
        assert found.sum(axis=-1) == pytest.approx(np.ones(len(cases)))
        assert found == pytest.approx(np.array([elected(case) for case in cases.tolist()]))


def test_weighted_by_hand():
    answers = np.array([0, 0, 1, -1])
    assert weighted(answers, np.array([0.25, 0.5, 1, 9])).tolist() == [0, 0, 1, 0]
    assert weighted(answers, np.array([0.5, 0.75, 1, 9])).tolist() == [0.5, 0.5, 0, 0]
    # Equal sums: a half for each answer, whatever its number of candidates.
    assert weighted(answers, np.array([0.25, 0.75, 1, 9])).tolist() == [0.25, 0.25, 0.5, 0]


def test_sums_that_differ_by_rounding_are_equal():
    answers, weights = np.array([0, 1, 0, 0]), np.array([0.1, 0.6, 0.2, 0.3])
    assert 0.1 + 0.2 + 0.3 != 0.6
    for scale in (1, 1e-200):
        assert weighted(answers, weights * scale) == pytest.approx([1 / 6, 1 / 2, 1 / 6, 1 / 6])
    assert weighted(answers, weights + 1e-6 * (answers == 1)).tolist() == [0, 1, 0, 0]


def test_without_weight_an_answer_is_better_than_none():
    none = np.zeros(4)
    assert weighted(np.array([0, 0, 1, -1]), none).tolist() == [0.25, 0.25, 0.5, 0]
    assert weighted(np.array([0, 0, 1, -1]), np.array([0, 0, 1e-300, 1])).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("weight", [-1, np.nan, INF])
def test_what_is_no_weight_is_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        weighted(np.array([0, 1]), np.array([1.0, weight]))


def test_strengths_by_hand():
    found = strengths(np.array([np.log(3) + 800, 800, -INF]))
    assert found == pytest.approx([1, 1 / 3, 0])
    assert strengths(np.array([-INF, -INF])).tolist() == [1, 1]
    with pytest.raises(ValueError, match="finite"):
        strengths(np.array([np.nan, 1]))


rows = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        arrays(int, (3, k), elements=st.integers(-1, 3)),
        arrays(float, (3, k), elements=st.integers(-9, 9).map(float) | st.just(-INF)),
    )
)


@settings(deadline=None)
@given(rows)
def test_equal_scores_are_the_majority(row):
    answers, _ = row
    assert np.array_equal(weighted(answers, strengths(np.zeros(answers.shape))), majority(answers))


@settings(deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_weighted_votes_keep_their_laws(row, random):
    answers, scores = row
    weights = strengths(scores)
    found = weighted(answers, weights)
    assert found.sum(axis=-1) == pytest.approx(np.ones(3))
    for one, weight, chances in zip(answers, weights, found, strict=True):
        assert np.array_equal(weighted(one, weight), chances)
        assert (one[chances > 0] >= 0).all() or (one < 0).all()
    moved = random.sample(range(answers.shape[1]), answers.shape[1])
    assert weighted(answers[:, moved], weights[:, moved]) == pytest.approx(found[:, moved])
    names = np.where(answers < 0, -1, 3 - answers)
    assert np.array_equal(weighted(names, weights), found)
    assert np.array_equal(weighted(answers, strengths(scores + 5)), found)
