import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.statistics.variance import reward_variance

NAN = np.nan
PROMPTS = np.array([0, 1, 0, 1, 0, 2])
SCORES = np.array([1.0, 0, 2, 4, 3, 9])
"""Prompt 0: 1 2 3; 1: 0 4; 2: 9 alone."""


def test_variances_by_hand():
    found = reward_variance(SCORES, PROMPTS)
    assert found["raw"] == {
        "mean": (1 + 8) / 2,
        "min": 1,
        "p25": 1 + 7 / 4,
        "p50": 1 + 7 / 2,
        "p75": 1 + 7 * 3 / 4,
        "max": 8,
    }
    assert (found["prompts"], found["responses"]) == (2, 5)
    assert "accuracy" not in found


def test_whitening_is_by_all_rewards_those_of_lone_responses_too():
    found = reward_variance(SCORES, PROMPTS)
    scale = 111 / 6 - (19 / 6) ** 2  # of 0 1 2 3 4 9, over N
    for name, raw in found["raw"].items():
        assert found["whitened"][name] == pytest.approx(raw / scale)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 50)), min_size=2, max_size=12),
    st.floats(0.01, 100),
    st.floats(-100, 100),
)
def test_whitened_models_of_other_scale_are_alike(rows, scale, offset):
    prompts, scores = np.array(rows).T
    plain = reward_variance(scores.astype(float), prompts)
    other = reward_variance(scale * scores + offset, prompts)
    if plain["whitened"] is not None:
        assert other["whitened"] == pytest.approx(plain["whitened"], rel=1e-6, abs=1e-9)
    if plain["raw"] is not None:
        raw = {name: scale**2 * value for name, value in plain["raw"].items()}
        assert other["raw"] == pytest.approx(raw, rel=1e-6, abs=1e-9)


def test_equal_rewards_have_no_variance_and_no_scale():
    found = reward_variance(np.full(6, 0.1), PROMPTS)
    assert set(found["raw"].values()) == {0}
    assert found["whitened"] is None


def test_scores_that_are_no_number_are_left_out():
    found = reward_variance(np.array([1.0, 0, NAN, np.inf, 3, NAN]), PROMPTS)
    assert (found["raw"]["mean"], found["prompts"], found["responses"]) == (2, 1, 2)


def test_of_no_prompt_with_two_responses_there_is_nothing_to_say():
    for scores, prompts in (
        (np.zeros(0), np.zeros(0, int)),
        (np.arange(3.0), np.arange(3)),
        (np.full(3, NAN), np.zeros(3, int)),
    ):
        found = reward_variance(scores, prompts, np.ones(len(scores), bool))
        assert (found["raw"], found["whitened"]) == (None, None)
        assert (found["prompts"], found["responses"]) == (0, 0)
        assert (found["accuracy"], found["accuracy_prompts"]) == (None, 0)


def test_accuracy_is_a_mean_over_prompts_of_the_share_of_pairs():
    """Prompt 0: right 2 against 1 and 3; prompt 1: right 4 against 0; prompt 2 has no wrong one."""
    right = np.array([False, False, True, True, False, True])
    found = reward_variance(SCORES, PROMPTS, right)
    assert (found["accuracy"], found["accuracy_prompts"]) == ((1 / 2 + 1) / 2, 2)
    tied = reward_variance(np.zeros(6), PROMPTS, right)
    assert tied["accuracy"] == 0.5
    unscored = np.where(SCORES == 0, NAN, SCORES)
    assert reward_variance(unscored, PROMPTS, right)["accuracy"] == (1 / 2 + 0) / 2
