import numpy as np
import pytest

from rbs_jax.statistics.figures import Group, interval, mean, resampled
from rbs_jax.suites.items import Item
from rbs_jax.suites.rewardbench2 import REWARDBENCH2, SUBSETS, TIES_SCORE
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)

NAN = np.nan


def row(subset, number="0", right=1, wrong=3, **other):
    return {
        "id": number,
        "prompt": f"{subset} {number}",
        "chosen": [f"good {n}" for n in range(right)],
        "rejected": [f"bad {n}" for n in range(wrong)],
        "num_correct": right,
        "num_incorrect": wrong,
        "total_completions": right + wrong,
        "models": ["m"] * (right + wrong),
        "subset": subset,
        "additional_metadata": None,
    } | other


def ties(scores_tied, scores_ref=(1.0, 0.0), right=2):
    """The score of Ties and its parts, of one prompt."""
    tied = Item("tied:7", "Ties", "t", [""] * len(scores_tied), right)
    ref = Item("ref:7", "Ties", "r", [""] * len(scores_ref), 1)
    scores = [np.array(scores_tied, float), np.array(scores_ref, float)]
    judged = REWARDBENCH2.judge([tied, ref], scores)
    parts = {name.removeprefix("Ties/"): g.values.item() for name, g in judged.groups.items()}
    return figures(REWARDBENCH2, [tied, ref], scores)["Ties"], parts


def test_the_published_total():
    figure = dict(zip(SUBSETS, (58.2, 40, 71.6, 84.4, 79.4), strict=True))
    values = figure | {name: 34 / sum(TIES_SCORE.values()) for name in TIES_SCORE}
    groups = {name: Group(np.array([value]), ["p"]) for name, value in values.items()}
    items = [Item("0", name, "p", ["a", "b"], 1) for name in SUBSETS]
    items += [Item(f"{kind}:0", "Ties", "p", ["a", "b", "c"], 2) for kind in ("ref", "tied")]
    found = {name: mean(groups, of) for name, of in REWARDBENCH2.averages(items).items()}
    assert found["Ties"] == pytest.approx(34)
    assert found["average"] == pytest.approx(61.27, abs=0.005)
    assert found["without_ties"] == pytest.approx((58.2 + 40 + 71.6 + 84.4 + 79.4) / 5)
    assert found["ID"] == pytest.approx(71.6)
    assert found["OOD-Safety"] == pytest.approx(84.4)
    assert found["OOD-Others"] == pytest.approx((58.2 + 40 + 79.4) / 3)


def test_best_of_four_shares_the_top(tmp_path):
    rows = [row("Math", str(n)) for n in range(4)] + [row("Focus")]
    items = REWARDBENCH2.read(write(tmp_path / "test-00000-of-00001.parquet", rows))
    assert items[0].responses == ["good 0", "bad 0", "bad 1", "bad 2"]
    scores = [[3, 1, 2, 0], [3, 3, 2, 0], [1, 1, 1, 1], [0, 1, 2, 3], [1, 0, 0, 0]]
    found = figures(REWARDBENCH2, items, scores)
    math = (1 + 1 / 2 + 1 / 4 + 0) / 4
    assert found == {
        "average": (math + 1) / 2,
        "without_ties": (math + 1) / 2,
        "ID": math,
        "OOD-Others": 1,
    }
    assert REWARDBENCH2.judge(items, [np.array(s, float) for s in scores]).values[1] == 0.5


def test_ties_by_hand():
    score, parts = ties([5, 4, 1, 0], [3, 1, 0])
    # tied: spread 1, margin 3; ref: margin 2; so min(2, 3) / 1 - 1 = 1
    assert parts == {
        "tied": 1,
        "ref": 1,
        "apart": 1,
        "apart_of_both": 1,
        "margin": pytest.approx(np.tanh(1)),
    }
    assert score == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01 * np.tanh(1))
    score, parts = ties([5, 3, 0, 0], [1, 0])  # spread 2, margin 3; ref's margin 1 is narrower
    assert (parts["apart"], parts["apart_of_both"]) == (1, 0)
    assert score == pytest.approx(0.3 + 0.3 + 0.2 + 0.01 * np.tanh(1 / 2 - 1))


@pytest.mark.parametrize(
    ("scores", "apart", "margin"),
    [
        ([2, 2, 1], 1, 1),  # right ones equal and above
        ([2, 2, 2], 0, 0),  # all equal
        ([1, 1, 2], 0, -1),  # right ones equal and below
    ],
)
def test_right_answers_of_one_score(scores, apart, margin):
    score, parts = ties(scores)
    assert (parts["apart"], parts["margin"]) == (apart, margin)
    accurate = margin == 1
    assert score == pytest.approx(0.3 + 0.3 * accurate + 0.4 * apart + 0.01 * margin)


@pytest.mark.parametrize("scores", [[NAN, 2, 1], [3, 2, NAN], [NAN, NAN, NAN]])
def test_a_row_without_all_its_scores_is_lost(scores):
    score, parts = ties(scores)
    assert (parts["tied"], parts["ref"]) == (0, 1)
    assert score == pytest.approx(0.3 - 0.01)


def test_ties_that_lack_a_kind_have_no_score(tmp_path):
    rows = [row("Ties", "ref:1"), row("Ties", "tied:2", right=2), row("Math")]
    items = REWARDBENCH2.read(write(tmp_path / "test.jsonl", rows))
    found = figures(REWARDBENCH2, items, [[1, 0, 0, 0], [2, 2, 0, 0, 0], [1, 0, 0, 0]])
    assert found == {"average": 1, "without_ties": 1, "ID": 1}
    groups = REWARDBENCH2.chance(items).groups
    assert [*groups] == ["Math", "Ties/tied", "Ties/ref"]


def test_prompts_of_ties_are_drawn_together(tmp_path):
    rows = [row("Ties", f"{kind}:{n}", right) for n in range(30) for kind, right in KINDS]
    items = REWARDBENCH2.read(write(tmp_path / "test.jsonl", rows))
    draw = np.random.default_rng(0)
    judged = REWARDBENCH2.judge(items, [draw.normal(size=len(i.responses)) for i in items])
    assert [len(group.values) for group in judged.groups.values()] == [30] * 5
    low, high = interval(resampled(judged.groups), TIES_SCORE)
    assert low < mean(judged.groups, TIES_SCORE) < high


KINDS = (("ref", 1), ("tied", 3))


def test_chance(tmp_path):
    rows = [row("Math"), row("Focus", wrong=4)] + [row("Ties", f"{k}:1", n) for k, n in KINDS]
    items = REWARDBENCH2.read(write(tmp_path / "test.jsonl", rows))
    chance_is_the_mean_over_random_scores(REWARDBENCH2, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "test.parquet"
    refused(REWARDBENCH2, file, row("Chat"), "row 1", "'subset' is 'Chat'")
    refused(REWARDBENCH2, file, row("Math", num_correct=4), "row 1", "'num_correct' is 4")
    refused(REWARDBENCH2, file, row("Math", num_correct=0), "row 1", "'num_correct' is 0")
    refused(REWARDBENCH2, file, row("Ties", "5"), "row 1", "'5'")
    refused(REWARDBENCH2, file, row("Ties", "tied:5"), "row 1", "2 or more")
    two = write(tmp_path / "two.json", [row("Ties", "ref:5"), row("Ties", "ref:5")])
    with pytest.raises(Exception, match="row 2: id 'ref:5' of Ties was there before"):
        REWARDBENCH2.read(two)
