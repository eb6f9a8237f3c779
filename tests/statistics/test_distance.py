import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rbs_jax.statistics.distance import distance
from rbs_jax.statistics.within import centred, correlation

NAN = np.nan
PROMPTS = np.array([0, 0, 1, 1])


@st.composite
def two_models(draw):
    """Rewards of two models, and prompts, of which some have one response."""
    size = draw(st.integers(1, 12))
    rewards = st.lists(st.integers(-20, 20), min_size=size, max_size=size)
    prompts = draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    return *(np.array(draw(rewards), float) for _ in range(2)), np.array(prompts)


def test_by_hand():
    """Centred: 1 -1 1 -1 and 1 -1 -1 1, orthogonal."""
    ours, theirs = np.array([2.0, 0, 7, 5]), np.array([2.0, 0, 5, 7])
    found = distance(ours, theirs, PROMPTS)
    assert found.distance == pytest.approx(np.sqrt(1 / 2))
    assert (found.prompts, found.responses) == (2, 4)
    assert distance(ours, ours, PROMPTS).distance == 0
    assert distance(ours, -ours, PROMPTS).distance == pytest.approx(1)


def test_a_model_that_prefers_nothing():
    same, other = np.full(4, 0.1), np.array([0.1, 0.1, 0.3, 0.3])
    assert distance(same, other, PROMPTS).distance == 0
    assert distance(same, np.array([1.0, 2, 3, 4]), PROMPTS).distance == pytest.approx(1 / 2)


@settings(deadline=None)
@given(two_models())
def test_it_is_a_function_of_the_correlation_within_prompts(models):
    ours, theirs, prompts = models
    rho = correlation(centred(ours, prompts), centred(theirs, prompts))
    assume(rho is not None)
    found = distance(ours, theirs, prompts).distance
    assert found == pytest.approx(np.sqrt((1 - rho) / 2), abs=1e-7)
    assert 0 <= found <= 1 + 1e-12


@settings(deadline=None)
@given(two_models(), st.floats(0.01, 100), st.lists(st.floats(-50, 50), min_size=5, max_size=5))
def test_scale_and_what_is_added_to_a_prompt_make_no_difference(models, scale, offsets):
    ours, theirs, prompts = models
    assume(centred(ours, prompts).any())
    other = scale * ours + np.array(offsets)[prompts]
    plain = distance(ours, theirs, prompts)
    assert distance(other, theirs, prompts) == (
        pytest.approx(plain.distance, abs=1e-7),
        *plain[1:],
    )
    assert distance(other, ours, prompts).distance == pytest.approx(0, abs=1e-7)


@settings(deadline=None)
@given(two_models())
def test_it_is_symmetric(models):
    ours, theirs, prompts = models
    assert distance(ours, theirs, prompts) == distance(theirs, ours, prompts)


def test_a_response_alone_and_one_without_a_score_contribute_nothing():
    ours, theirs = np.array([2.0, 0, 7, 5]), np.array([1.0, 0, 5, 7])
    longer = [np.append(ours, [99, NAN, 3, 1]), np.append(theirs, [-99, 4, np.inf, 1])]
    prompts = np.append(PROMPTS, [2, 0, 1, 3])
    assert distance(*longer, prompts) == distance(ours, theirs, PROMPTS)


def test_a_prompt_that_only_one_model_has_two_scores_of_contributes_nothing():
    ours, theirs = np.array([2.0, 0, 7, 5]), np.array([1.0, 0, 5, NAN])
    found = distance(ours, theirs, PROMPTS)
    assert (found.distance, found.prompts, found.responses) == (0, 1, 2)


def test_where_nothing_is_left_there_is_no_distance():
    assert distance(np.zeros(0), np.zeros(0), np.zeros(0, int)) == (None, 0, 0)
    assert distance(np.arange(3.0), np.arange(3.0), np.arange(3)) == (None, 0, 0)
