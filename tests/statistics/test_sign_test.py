from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.statistics.sign_test import holm, sign_test


def of_counts(wins, losses, ties=0):
    difference = np.array([1.0] * wins + [-1.0] * losses + [0.0] * ties)
    return sign_test(0.5 + difference / 2, np.full(len(difference), 0.5))


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1),
        (1, 0, 1),  # 2 / 2
        (5, 5, 1),
        (8, 2, 0.109375),  # 2 (1 + 10 + 45) / 1024
        (2, 8, 0.109375),
        (10, 0, 0.001953125),  # 2 / 1024
        (60, 40, 0.05688793364098),  # this and the next as scipy's binomtest has them
        (5100, 4900, 0.04658552770495),
    ],
)
def test_p_by_hand(wins, losses, p):
    assert of_counts(wins, losses).p == pytest.approx(p, rel=1e-6)


def test_it_counts_items_by_which_value_is_larger():
    test = sign_test(np.array([1.0, 0.5, 0.0, 0.25]), np.array([0.0, 0.5, 1.0, 0.0]))
    assert test == (2, 1, 1, 1.0)


def test_ties_change_nothing():
    assert of_counts(8, 2, ties=50).p == of_counts(8, 2).p


def test_ten_thousand_items_are_exact_down_to_the_smallest_number():
    assert of_counts(10_000, 0).p == 0
    assert of_counts(1000, 0).p == 2.0**-999
    assert of_counts(5000, 5000).p == 1
    below = sum(comb(10_000, k) for k in range(4801))
    assert of_counts(4800, 5200).p == 2 * below / 2**10_000


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_p_is_the_share_of_coin_tosses_as_uneven(wins, losses):
    decided, apart = wins + losses, abs(wins - losses)
    uneven = sum(comb(decided, k) for k in range(decided + 1) if abs(decided - 2 * k) >= apart)
    assert of_counts(wins, losses).p == pytest.approx(uneven / 2**decided)
    assert of_counts(wins, losses).p == of_counts(losses, wins).p


def test_missing_values_are_refused():
    with pytest.raises(ValueError, match="without a value"):
        sign_test(np.zeros(2), np.array([0, np.nan]))


def test_holm_by_hand():
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and none below those before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8), st.randoms())
def test_holm_lies_between_p_and_bonferroni_in_their_order(ps, chance):
    adjusted = holm(ps)
    for p, own in zip(ps, adjusted, strict=True):
        assert p <= own <= min(1, len(ps) * p)
    by_p = [own for _, own in sorted(zip(ps, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    places = list(range(len(ps)))
    chance.shuffle(places)
    assert holm([ps[i] for i in places]) == [adjusted[i] for i in places]


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_holm_refuses_what_is_no_p(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, p])
