import numpy as np
import pytest

from rbs_jax.errors import UserError
from rbs_jax.suites.rewardmath import REWARDMATH
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)

NAN = np.nan


def row(problem=0, kind="rejected", number=0, **other):
    return {
        "problem": f"problem {problem}",
        "answer": "1",
        "eval_solution": [f"step one of {kind} {number}", "step two"],
        "solution_reference": "someone",
        "solution_type": kind,
        "subject": "Algebra",
        "level": 1,
        "problem_id": problem,
        "id": 10 * problem + number,
    } | other


def problems(count, wrong=9):
    """Each with its right solution in another place."""
    kinds = [["rejected"] * wrong for _ in range(count)]
    for problem, own in enumerate(kinds):
        own.insert(problem, "chosen")
    return [row(p, kind, n) for p, own in enumerate(kinds) for n, kind in enumerate(own)]


def read(tmp_path, rows):
    return REWARDMATH.read(write(tmp_path / "benchmark/RewardMATH_direct.json", rows))


def test_files_as_published(tmp_path):
    read(tmp_path, problems(3))
    write(tmp_path / "benchmark/RewardMATH_pairwise.json", [{"eval_solution_A": ["x"]}])
    write(tmp_path / "benchmark/rewardbench_math_prm_.json", [row()])
    items = REWARDMATH.read(f"{tmp_path}/benchmark")
    assert [(item.id, item.prompt, item.right) for item in items] == [
        (str(n), f"problem {n}", 1) for n in range(3)
    ]
    assert [len(item.responses) for item in items] == [10] * 3
    assert items[2].responses[0] == "step one of chosen 2\nstep two"


@pytest.mark.parametrize(
    ("scores", "accuracy", "with_ties", "mrr"),
    [
        ([4, 3, 2, 1], 1, 1, 1),
        ([4, 4, 2, 1], 0, 1, 1 / 2),  # of equal scores the wrong one's comes first
        ([4, 4, 4, 4], 0, 1, 1 / 4),
        ([3, 4, 2, 1], 0, 0, 1 / 2),
        ([0, 3, 2, 1], 0, 0, 1 / 4),
        ([NAN, 3, 2, 1], 0, 0, 1 / 4),
        ([4, NAN, 2, 1], 0, 0, 1 / 2),
    ],
)
def test_rules_by_hand(tmp_path, scores, accuracy, with_ties, mrr):
    items = read(tmp_path, problems(1, wrong=3))
    found = figures(REWARDMATH, items, [scores])
    assert found == {"accuracy": accuracy, "accuracy_with_ties": with_ties, "mrr": mrr}


def test_chance(tmp_path):
    items = read(tmp_path, [*problems(2), row(1, "chosen")])  # one problem of two right ones
    assert items[1].right == 2
    assert REWARDMATH.chance(items).values[0] == pytest.approx(0.1)
    assert REWARDMATH.chance(items).groups["mrr"].values[0] == pytest.approx(
        sum(1 / n for n in range(1, 11)) / 10
    )
    chance_is_the_mean_over_random_scores(REWARDMATH, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "RewardMATH_direct.json"
    refused(REWARDMATH, file, row(kind="human"), "row 1", "'solution_type' is 'human'")
    refused(REWARDMATH, file, row(eval_solution=[]), "row 1", "'eval_solution'")
    refused(REWARDMATH, file, row(problem_id=None), "row 1", "'problem_id'")
    with pytest.raises(UserError, match="problem_id 0 has no chosen solution"):
        read(tmp_path, [row()])
