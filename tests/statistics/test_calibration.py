import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.statistics.calibration import BINS, NO_LEAST, calibration, reliability

LOG_3 = np.log(3)  # sigma(log 3) = 3/4
TOO_SURE, TOO_TIMID = NO_LEAST.values()
sizes = st.floats(-1e4, 1e4, width=32).map(lambda x: round(x, 6))  # nothing near 1e-30
margins_ = st.lists(sizes, min_size=1, max_size=30).map(np.array)


def loss(margins, temperature):
    return np.logaddexp(0, -margins / temperature).mean()


def test_calibrated_margins():
    """Three of four are won where the chance is 3/4."""
    found = calibration(np.array([LOG_3, LOG_3, LOG_3, -LOG_3]))
    assert found["ece"] == pytest.approx(0)
    assert found["brier"] == pytest.approx((3 / 16 + 9 / 16) / 4)
    assert found["loss"] == pytest.approx(-(3 * np.log(3 / 4) + np.log(1 / 4)) / 4)
    assert found["temperature"] == pytest.approx(1)
    assert found["scaled_loss"] == pytest.approx(found["loss"])
    assert found["scaled_ece"] == pytest.approx(0)
    assert (found["n"], found["left_out"], found["no_temperature"]) == (4, 0, None)


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 7, 1e4])
def test_the_temperature_undoes_a_scale(temperature):
    found = calibration(temperature * np.array([LOG_3, LOG_3, LOG_3, -LOG_3]))
    assert found["temperature"] == pytest.approx(temperature)
    assert found["scaled_loss"] == pytest.approx(0.5623351446)  # the entropy of 1/4 [nats]
    assert found["scaled_ece"] == pytest.approx(0)


def test_ece_by_hand():
    """p = 3/4 with no hit, and p = 1/2 with a tie, which counts one half."""
    found = calibration(np.array([-LOG_3, 0.0]))
    assert found["ece"] == pytest.approx((3 / 4 - 0) / 2 + 0)


def test_bins_by_hand():
    bins = reliability(np.array([0.0, LOG_3, -LOG_3, LOG_3, 50.0]))
    assert [b["n"] for b in bins] == [1, *[0] * 6, 3, *[0] * 6, 1]
    assert bins[7]["low"] == pytest.approx(11 / 15)
    assert bins[7]["high"] == pytest.approx(bins[8]["low"])
    assert (bins[7]["p"], bins[7]["hits"]) == (pytest.approx(3 / 4), pytest.approx(2 / 3))
    assert (bins[1]["p"], bins[1]["hits"]) == (None, None)
    assert (bins[0]["low"], bins[0]["hits"]) == (0.5, 0.5)
    assert bins[-1]["high"] == 1


def test_where_no_pair_is_lost_the_temperature_tends_to_zero():
    found = calibration(np.array([1.0, 2.0, 0.0]))
    assert (found["temperature"], found["no_temperature"]) == (None, TOO_TIMID)
    assert found["scaled_loss"] == pytest.approx(np.log(2) / 3)
    assert found["scaled_ece"] == 0
    assert found["scaled_loss"] == pytest.approx(loss(np.array([1.0, 2.0, 0.0]), 1e-6))


@pytest.mark.parametrize("margins", [[-1.0], [3.0, -3.0], [0.1, 0.2, -0.2, -0.1], [1.0, -2.0]])
def test_where_margins_say_nothing_the_temperature_tends_to_infinity(margins):
    found = calibration(np.array(margins))
    assert (found["temperature"], found["no_temperature"]) == (None, TOO_SURE)
    assert found["scaled_loss"] == pytest.approx(np.log(2))
    assert found["scaled_ece"] == pytest.approx(np.mean(np.array(margins) < 0) - 0.5)


def test_margins_of_zero_are_of_no_use_at_any_temperature():
    found = calibration(np.zeros(3))
    assert (found["ece"], found["brier"], found["scaled_ece"]) == (0, 0.25, 0)
    assert found["loss"] == found["scaled_loss"] == pytest.approx(np.log(2))
    assert found["temperature"] is None


def test_what_is_no_number_is_left_out_and_counted():
    some = np.array([1.0, -0.5, 2.0])
    with_others = np.concatenate([some, [np.nan, np.inf, -np.inf]]).astype(np.float32)
    assert calibration(with_others) == calibration(some) | {"left_out": 3}


def test_of_no_margins_there_is_nothing_to_say():
    found = calibration(np.full(2, np.nan))
    assert (found["n"], found["left_out"], len(found["bins"])) == (0, 2, BINS)
    assert {found[name] for name in found.keys() - {"n", "left_out", "bins"}} == {None}
    assert found.keys() == calibration(np.ones(1)).keys()


@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_margins_of_any_size_are_no_trouble(size):
    found = calibration(size * np.array([1.0, 1, -1, 0.5]))
    assert 0 < found["temperature"] < 2 * size
    assert found["loss"] == pytest.approx(loss(size * np.array([1.0, 1, -1, 0.5]), 1))


@settings(deadline=None)
@given(margins_)
def test_no_other_temperature_has_a_lower_loss(margins):
    found = calibration(margins)
    json.dumps(found, allow_nan=False)
    assert found["scaled_loss"] <= found["loss"] * (1 + 1e-12)
    if found["temperature"] is None:
        limit = 1e-30 if found["no_temperature"] == TOO_TIMID else 1e30
        assert loss(margins, limit) == pytest.approx(found["scaled_loss"])
    for factor in (0.5, 0.99, 1.01, 2):
        other = loss(margins, factor * (found["temperature"] or 1))
        assert found["scaled_loss"] <= other + 1e-12


@settings(deadline=None)
@given(margins_)
def test_figures_lie_within_their_bounds(margins):
    found = calibration(margins)
    assert 0 <= found["ece"] <= 1
    assert 0 <= found["scaled_ece"] <= 1
    assert 0 <= found["brier"] <= 1
    assert sum(b["n"] for b in found["bins"]) == found["n"] == len(margins)
    for b in found["bins"]:
        assert not b["n"] or b["low"] - 1e-12 <= b["p"] <= b["high"] + 1e-12
