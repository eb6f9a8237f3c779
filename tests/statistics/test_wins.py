import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbs_jax.statistics.wins import AT_RANDOM, on_top, per_pair, strictly

NAN = np.nan
RULES = [per_pair, strictly, on_top]


@pytest.mark.parametrize(
    ("scores", "right", "expected"),
    [
        ([2, 1], 1, (1, 1, 1)),
        ([1, 2], 1, (0, 0, 0)),
        ([1, 1], 1, (0.5, 0, 0.5)),
        ([3, 1, 2], 2, (0.5, 0, 1)),
        ([3, 2, 1, 3], 2, (0.625, 0, 0.5)),
        ([NAN, 1], 1, (0, 0, 0)),
        ([1, NAN], 1, (0, 0, 0)),
        ([NAN, NAN], 1, (0, 0, 0)),
    ],
)
def test_rules(scores, right, expected):
    scores = np.array(scores, float)
    assert tuple(rule(scores, right) for rule in RULES) == expected


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("right", "wrong"), [(1, 1), (1, 3), (2, 3), (3, 1)])
def test_chance_is_the_mean_over_all_orders(rule, right, wrong):
    orders = itertools.permutations(range(right + wrong))
    values = [rule(np.array(order, float), right) for order in orders]
    assert AT_RANDOM[rule](right, wrong) == pytest.approx(np.mean(values))


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=6), st.integers(1, 5), st.floats(-5, 5))
def test_a_rule_sees_only_the_order(scores, right, offset):
    scores, right = np.array(scores), min(right, len(scores) - 1)
    ranks = np.unique(scores, return_inverse=True)[1].astype(float)
    for rule in RULES:
        assert rule(scores, right) == rule(3 * ranks + offset, right)
        assert 0 <= rule(scores, right) <= 1
