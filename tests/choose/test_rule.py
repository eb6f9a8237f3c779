import numpy as np
import pytest

from rbs_jax.choose.rule import by_value, highest, scored

INF = np.inf


def test_the_highest_has_it_and_equals_share():
    values = np.array([[1.0, 3, 2], [3, 1, 3], [-INF, -INF, -INF], [-INF, -5, -INF]])
    third = 1 / 3
    wanted = [[0, 1, 0], [0.5, 0, 0.5], [third, third, third], [0, 1, 0]]
    assert highest(values).tolist() == wanted


def test_what_is_just_below_is_equal_where_asked():
    values = np.array([1.0, 1 - 1e-9, 1 - 1e-3])
    assert highest(values).tolist() == [1, 0, 0]
    assert highest(values, within=1e-6).tolist() == [0.5, 0.5, 0]


def test_a_candidate_has_a_score_if_every_model_gives_it_one():
    scores = np.array([[1.0, -INF, 2, -INF], [0, 1, -1e300, -INF]])
    assert scored(scores).tolist() == [True, False, True, False]


@pytest.mark.parametrize("value", [np.nan, INF])
def test_what_is_no_score_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        scored(np.array([[1.0, value]]))


def test_a_rule_by_values_picks_the_highest_and_draws_nothing():
    rule = by_value("the second model's", lambda scores: scores[..., 1, :])
    random = np.random.default_rng(0)
    before = random.bit_generator.state
    assert rule.choose(np.array([[3.0, 1], [1, 2]]), random).tolist() == [0, 1]
    assert rule.values(np.array([[3.0, 1], [1, 2]])).tolist() == [1, 2]
    assert random.bit_generator.state == before
