import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.choose.ensembles import mean
from rbs_jax.choose.rule import highest
from rbs_jax.choose.transforms import log_sigmoid, par
from tests.choose.drawn import INF, scores

LOG3 = math.log(3)
"""sigma(log 3) = 3/4, sigma(0) = 1/2, sigma(-log 3) = 1/4."""
ALL = [log_sigmoid, par]


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_log_sigmoid_by_hand():
    two = np.array([[LOG3, 0, -LOG3], [5, 5 + LOG3, 5 + LOG3]])
    references = np.array([[0.0, 0, 0, 0], [5, 5, 5, 5]])
    wanted = [math.log(3 / 4 * 1 / 2), math.log(1 / 2 * 3 / 4), math.log(1 / 4 * 3 / 4)]
    assert log_sigmoid(two, references) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("references", "percentile"),
    [
        (list(range(21)), 17),  # 85% of the way from the first to the last of 21
        ([2, 0, 1], 1.7),  # 85% of two steps is 1.7 steps
        ([-INF, 2, -INF, 0, 1], 1.7),
        ([-INF, 4], 4),
        ([4], 4),
    ],
)
def test_the_reference_is_the_85th_percentile(references, percentile):
    found = log_sigmoid(np.array([[3.0]]), np.array([references], float))
    assert found == pytest.approx([math.log(sigma(3 - percentile))])


def test_the_percentile_is_numpys():
    drawn = np.random.default_rng(0).normal(size=(3, 2, 12))
    percentile = np.percentile(drawn, 85, axis=-1)
    wanted = -np.log1p(np.exp(percentile[..., None] - drawn)).sum(axis=-2)
    assert np.allclose(log_sigmoid(drawn), wanted)


def test_par_by_hand():
    two = np.array([[0.0, LOG3], [7, 7]])
    references = np.array([[0.0, LOG3], [7, 7 - LOG3]])
    first = ((1 / 2 + 1 / 4) / 2 + (1 / 2 + 3 / 4) / 2) / 2
    second = ((3 / 4 + 1 / 2) / 2 + (1 / 2 + 3 / 4) / 2) / 2
    assert par(two, references) == pytest.approx([first, second])
    one_left_out = np.array([[0.0, -INF], [7, 7 - LOG3]])
    assert par(two, one_left_out)[0] == pytest.approx((1 / 2 + (1 / 2 + 3 / 4) / 2) / 2)


@pytest.mark.parametrize("of", ALL)
def test_what_is_far_above_gains_hardly_more(of):
    two = np.array([[100.0, 1] + [0] * 7, [-2, 1] + [0] * 7])  # the mean takes the first
    assert int(mean(two).argmax()) == 0
    assert int(of(two).argmax()) == 1


@pytest.mark.parametrize("of", ALL)
@settings(deadline=None)
@given(scores(missing=True))
def test_candidates_are_the_references_if_there_are_no_others(of, drawn):
    assert np.array_equal(of(drawn), of(drawn, drawn))


@pytest.mark.parametrize("of", ALL)
@settings(deadline=None)
@given(scores(missing=True))
def test_those_without_a_score_lose_and_are_no_reference(of, drawn):
    with np.errstate(all="raise", under="ignore"):
        found = of(drawn)
    whole = (drawn > -INF).all(axis=0)
    assert np.array_equal(found > -INF, whole)
    assert not np.isnan(found).any()
    nobody = np.full((len(drawn), 1), -INF)
    more = of(np.concatenate([nobody, drawn], axis=1))
    assert more[1:] == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("of", ALL)
@settings(deadline=None)
@given(scores(models=st.just(1)))
def test_of_one_model_it_is_the_argmax(of, one):
    assert np.array_equal(highest(of(one)), highest(one[0]))


@pytest.mark.parametrize("of", ALL)
@settings(deadline=None)
@given(scores(), st.integers(-40, 40), st.integers(0, 3))
def test_a_constant_on_one_model_changes_nothing(of, drawn, constant, model):
    other = drawn.copy()
    other[model % len(drawn)] += constant
    assert of(other) == pytest.approx(of(drawn), abs=1e-12)


def test_many_identical_models_are_one():
    one = np.array([[0.0, 2, -1]])
    assert log_sigmoid(np.repeat(one, 3, axis=0)) == pytest.approx(3 * log_sigmoid(one))
    assert par(np.repeat(one, 3, axis=0)) == pytest.approx(par(one))


@pytest.mark.parametrize("of", ALL)
def test_scores_however_far_apart_have_a_value(of):
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(of(np.array([[-1e300, 0, 1e300], [0, 1, 2]]))).all()


@pytest.mark.parametrize("of", ALL)
def test_what_cannot_be_compared_is_refused(of):
    one = np.array([[1.0, 2]])
    for references in ([[np.nan]], [[INF, 1]]):
        with pytest.raises(ValueError, match="finite"):
            of(one, np.array(references))
    with pytest.raises(ValueError, match="no reference"):
        of(one, np.array([[-INF, -INF]]))
    assert of(np.array([[-INF]]), np.array([[-INF]])).tolist() == [-INF]
