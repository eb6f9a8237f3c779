import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.choose.ensembles import mean, uncertainty_weighted, worst
from rbs_jax.choose.rule import highest
from tests.choose.drawn import INF, scores

TWO = np.array([[1.0, 4, 3], [3, 0, 2]])
"""By two models (rows) of three candidates."""
ALL = [mean, worst, uncertainty_weighted]


def test_means_by_hand():
    assert mean(TWO).tolist() == [(1 + 3) / 2, (4 + 0) / 2, (3 + 2) / 2]


def test_worst_by_hand():
    assert worst(TWO).tolist() == [1, 0, 2]


def test_uncertainty_weighted_by_hand():
    # Deviations from the mean are 1, 2 and 1/2, so variances over two models are 1, 4 and 1/4.
    assert uncertainty_weighted(TWO).tolist() == [2 - 1 / 2, 2 - 4 / 2, 2.5 - 0.25 / 2]


def test_each_can_pick_another():
    two = np.array([[0.0, 8, 2.5], [9, 2, 2.5]])  # means 4.5 5 2.5, variances 20.25 9 0
    assert [int(highest(of(two)).argmax()) for of in ALL] == [1, 2, 2]
    near = np.array([[0.0, 3, 2.25], [9, 2, 2.25]])  # means 4.5 2.5 2.25, variances 20.25 0.25 0
    assert [int(highest(of(near)).argmax()) for of in ALL] == [0, 2, 1]


@pytest.mark.parametrize("of", ALL)
def test_without_some_score_it_has_none(of):
    some = np.array([[-INF, 1, -INF], [5, 1, -INF]])
    assert of(some).tolist() == [-INF, 1, -INF]
    with pytest.raises(ValueError, match="finite"):
        of(np.array([[np.nan, 1]]))


@pytest.mark.parametrize("of", ALL)
@settings(deadline=None)
@given(scores(models=st.just(1)), st.integers(1, 4))
def test_one_model_however_often_is_itself(of, one, times):
    assert np.array_equal(of(np.repeat(one, 2**times, axis=0)), one[0])


@settings(deadline=None)
@given(scores(models=st.just(4)), st.integers(-40, 40), st.integers(0, 3))
def test_a_constant_on_one_model_changes_no_choice_of_the_mean(drawn, constant, model):
    other = drawn.copy()
    other[model] += constant
    assert np.array_equal(highest(mean(other)), highest(mean(drawn)))


@pytest.mark.parametrize("of", ALL)
@settings(deadline=None)
@given(scores(models=st.sampled_from([1, 2, 4])), st.integers(-40, 40))
def test_a_constant_on_all_models_is_added(of, drawn, constant):
    assert np.array_equal(of(drawn + constant), of(drawn) + constant)


@pytest.mark.parametrize("of", [worst, uncertainty_weighted])
def test_a_constant_on_one_model_can_change_the_others_choice(of):
    two = np.array([[0.0, 1], [1, 0]])
    assert highest(of(two)).tolist() == [0.5, 0.5]
    assert highest(of(two + np.array([[2], [0]]))).tolist() != [0.5, 0.5]
