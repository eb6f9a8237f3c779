import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.suites.items import Item
from rbs_jax.suites.length import by_length, score_with_length

NAN = np.nan


def item(lengths, right=1, prompt="p", row=0):
    return Item(str(row), "all", prompt, ["x" * length for length in lengths], right)


def arrays(*rows):
    return [np.array(row, float) for row in rows]


def test_pairs_by_which_side_is_longer():
    items = [item([5, 3]), item([5, 2]), item([1, 9]), item([4, 4, 2, 9], right=2, prompt="q")]
    scores = arrays([1, 0], [1, 1], [0, 1], [3, 1, 2, 2])  # the last: 4 > 2, 4 < 9, twice
    found = by_length(items, scores)
    assert {k: found["right_longer"][k] for k in ("n", "accuracy")} == {"n": 4, "accuracy": 2.5 / 4}
    assert {k: found["wrong_longer"][k] for k in ("n", "accuracy")} == {"n": 3, "accuracy": 1 / 3}
    assert found["equal"] == {"n": 0, "accuracy": None, "ci95": None}
    assert found["balanced"]["accuracy"] == pytest.approx((2.5 / 4 + 1 / 3) / 2)
    assert found["balanced"]["ci95"] is None, "of two prompts"
    many = [item([5, 3] if n % 2 else [3, 5], prompt=f"p{n}") for n in range(20)]
    low, high = by_length(many, arrays(*[[n % 3, 1] for n in range(20)]))["balanced"]["ci95"]
    assert 0 < low < high < 1


def test_equal_lengths_are_for_themselves_and_no_balance_is_made_of_one_kind():
    found = by_length([item([3, 3]), item([4, 3])], arrays([1, 0], [1, 0]))
    assert found["equal"]["accuracy"] == 1
    assert found["balanced"] == {"accuracy": None, "ci95": None}


def test_a_pair_without_a_score_is_lost():
    found = by_length([item([4, 3]), item([4, 3])], arrays([NAN, 0], [1, NAN]))
    assert found["right_longer"] == {"n": 2, "accuracy": 0, "ci95": None}


def test_of_no_items_there_is_nothing_to_say():
    found = by_length([], [])
    assert found["right_longer"] == {"n": 0, "accuracy": None, "ci95": None}
    assert found["correlation"]["n"] == 0
    assert found["correlation"]["all"] == {"pearson": None, "spearman": None}


def test_the_interval_is_over_prompts():
    """Rows of one prompt tell no more than one of them."""
    once = [item([4, 3], prompt=str(i)) for i in range(60)]
    once += [item([3, 4], prompt=str(i)) for i in range(60)]
    scores = list(np.random.default_rng(0).normal(size=(120, 2)))
    found = by_length(once, scores)
    often = by_length(
        [row for row in once for _ in range(5)], [s for s in scores for _ in range(5)]
    )
    for name in ("right_longer", "wrong_longer", "balanced"):
        assert often[name]["ci95"] == pytest.approx(found[name]["ci95"])
        low, high = found[name]["ci95"]
        assert low < found[name]["accuracy"] < high


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_length_alone_gets_one_half(pairs):
    items = [item(pair, prompt=str(i)) for i, pair in enumerate(pairs)]
    found = by_length(items, arrays(*pairs))
    assert found["balanced"]["accuracy"] in {None, 0.5}
    if found["equal"]["n"]:
        assert found["equal"]["accuracy"] == 0.5
    assert sum(found[name]["n"] for name in ("right_longer", "wrong_longer", "equal")) == len(pairs)


def test_correlation_by_hand():
    """Lengths of 1 + length 1, 2, 4, 8: logs 0 1 2 3, of centred scores -2 -1 0 3."""
    found = score_with_length([item([0, 1, 3, 7])], arrays([0, 1, 2, 5]))
    assert found["n"] == 4
    assert found["all"]["pearson"] == pytest.approx((3 + 0.5 + 4.5) / np.sqrt(5 * 14))
    assert found["all"]["spearman"] == pytest.approx(1)
    assert found["within"]["pearson"] == pytest.approx(found["all"]["pearson"])


def test_what_prompts_ask_for_does_not_count_within_them():
    """Each prompt prefers the shorter one, though the prompt of long ones is scored higher."""
    items = [item([1, 2], prompt="a"), item([100, 200], prompt="b")]
    found = score_with_length(items, arrays([2, 1], [12, 11]))
    assert found["all"]["pearson"] > 0.9
    assert found["all"]["spearman"] == pytest.approx(0.6)  # 1 - 6 (1 + 1 + 1 + 1) / (4 * 15)
    assert found["within"]["pearson"] < -0.9
    assert found["within"]["spearman"] == pytest.approx(-1)


def test_rows_of_one_prompt_are_compared():
    found = score_with_length([item([1]), item([2])], arrays([1], [2]))
    assert found["within"]["spearman"] == pytest.approx(1)


def test_ties_share_their_rank():
    """Ranks 1 2.5 2.5 4 against 1 2 3 4: 4.5 / sqrt(4.5 * 5)."""
    found = score_with_length([item([1, 2, 3, 4])], arrays([0, 5, 5, 9]))
    assert found["all"]["spearman"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_responses_without_a_score_are_left_out():
    whole = score_with_length([item([1, 2, 4])], arrays([0, 5, 2]))
    assert score_with_length([item([1, 2, 3, 4])], arrays([0, 5, NAN, 2])) == whole
    assert whole["n"] == 3


def test_where_nothing_differs_there_is_no_correlation():
    nothing = {"pearson": None, "spearman": None}
    for lengths, scores in (([3, 3], [1, 2]), ([1, 2], [0.1, 0.1])):
        found = score_with_length([item(lengths)], arrays(scores))
        assert found["all"] == found["within"] == nothing


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=6))
def test_correlation_within_prompts_does_not_see_what_a_prompt_adds(rows):
    lengths = [[2, 5 + i, 11] for i in range(len(rows))]
    items = [item(own, prompt=str(i)) for i, own in enumerate(lengths)]
    plain = score_with_length(items, arrays(*rows))
    moved = [3 * np.array(row, float) + 100 * i for i, row in enumerate(rows)]
    assert score_with_length(items, moved)["within"] == pytest.approx(plain["within"])
