import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.statistics.within import centred, comparable, correlation, ranks

PROMPTS = np.array([0, 1, 0, 2, 1, 0])


def test_who_has_another_response_beside_it():
    assert comparable(PROMPTS).tolist() == [True, True, True, False, True, True]


def test_centred_by_hand():
    values = np.array([1.0, 5, 2, 7, 7, 6])
    assert centred(values, PROMPTS) == pytest.approx([-2, -1, -1, 0, 1, 3])
    assert centred(np.zeros(0), np.zeros(0, int)).tolist() == []


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.integers(2, 20))
def test_equal_values_are_centred_to_zero_exactly(value, count):
    assert not centred(np.full(count, value), np.zeros(count, int)).any()


def test_correlation_by_hand():
    a, b = np.array([-1.0, 0, 1]), np.array([-2.0, 1, 1])
    assert correlation(a, b) == pytest.approx(3 / np.sqrt(12))
    assert correlation(a, -3 * a) == -1
    assert correlation(a, np.zeros(3)) is None
    assert correlation(np.zeros(0), np.zeros(0)) is None


def test_ranks_by_hand():
    values = np.array([9.0, -1, 9, 3, 2, -7])  # prompt 0: 9 9 -7, 1: -1 2, 2: 3
    assert centred(ranks(values, PROMPTS), PROMPTS).tolist() == [0.5, -0.5, 0.5, 0, 0.5, -1]
    assert ranks(np.zeros(0), np.zeros(0, int)).tolist() == []
