import numpy as np
import pytest

from rbs_jax.statistics.figures import FEWEST
from rbs_jax.suites.controlled import beside_controls, judge_all
from rbs_jax.suites.items import Item
from rbs_jax.suites.pairs import PAIRS


def made(count):
    return [Item(str(n), "ab"[n % 2], f"prompt {n}", ["right", "wrong"], 1) for n in range(count)]


def wins(count, share):
    """Scores with which that share of items is right."""
    return [
        np.array([1.0, 0.0]) if n < share * count else np.array([0.0, 1.0]) for n in range(count)
    ]


def measured(count, share, controls, heads=(0.5,)):
    items = made(count)
    scores = {"model": wins(count, share)} | {
        name: wins(count, value) for name, value in controls.items()
    }
    judged, each = judge_all(PAIRS, items, scores, [wins(count, head) for head in heads])
    return beside_controls(PAIRS, items, judged.pop("model"), judged, each)


def test_figures_stand_beside_the_same_figures_of_controls():
    found = measured(100, 0.8, {"longer": 0.6, "shorter": 0.4})
    assert found["headline"] == "all_rows"
    assert found["accuracy"] == pytest.approx(0.8)
    low, high = found["ci95"]
    assert 0.70 < low < 0.76
    assert 0.84 < high < 0.90
    assert found["controls"].pop("log_likelihood") is None
    assert found["controls"] == pytest.approx(
        {"longer": 0.6, "shorter": 0.4, "random_head": 0.5, "chance": 0.5}
    )
    assert found["inside_controls"] == []
    assert (found["n"], found["prompts"]) == (100, 100)
    assert found["subsets"]["a"]["n"] == 50
    assert found["subsets"]["a"]["accuracy"] == pytest.approx(0.8)
    assert set(found["subsets"]["b"]["controls"]) == {*found["controls"], "log_likelihood"}


def test_a_score_that_is_not_clearly_above_a_control_is_inside_it():
    # The same prompts: of 100, 8 that the control misses and none the other way is a difference.
    assert measured(100, 0.68, {"longer": 0.6})["inside_controls"] == []
    assert measured(100, 0.61, {"longer": 0.6})["inside_controls"] == ["longer"]
    found = measured(100, 0.45, {"longer": 0.6})["inside_controls"]
    assert found == ["longer", "random_head", "chance"]


def test_a_score_that_one_random_head_reaches_is_inside_it():
    found = measured(100, 0.8, {}, heads=(0.2, 0.5, 0.8))
    assert found["random_heads"] == pytest.approx([0.2, 0.5, 0.8])
    assert found["controls"]["random_head"] == pytest.approx(0.5)
    assert found["inside_controls"] == ["random_head"]
    assert measured(100, 0.8, {}, heads=(0.2, 0.5, 0.7))["inside_controls"] == []


def test_of_few_prompts_nothing_is_clear():
    for count, few in ((FEWEST - 1, True), (FEWEST, False)):
        found = measured(count, 1.0, {"longer": 0.0}, heads=(0.0,))
        assert (found["ci95"] is None) == few
        assert found["inside_controls"] == (["longer", "random_head", "chance"] if few else [])
        assert all(each["inside_controls"] for each in found["subsets"].values())
