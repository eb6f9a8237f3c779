import numpy as np
import pytest

from rbs_jax.suites.ppe import PPE
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)

NAN = np.nan


def vote(winner, number="1", **other):
    return {
        "question_id": number,
        "prompt": f"question {number}",
        "response_1": "one",
        "response_2": "two",
        "model_a": "m",
        "model_b": "n",
        "winner": winner,
        "language": "English",
    } | other


def samples(truths, pairs=(), number="7", **other):
    responses = {f"response_{n + 1}": f"sample {n}" for n in range(len(truths))}
    return {
        "question_id": number,
        "prompt": f"problem {number}",
        "model_name": "m",
        "scores": list(map(bool, truths)),
        "sampled_conflict_pairs": [list(pair) for pair in pairs],
        **responses,
    } | other


def test_votes_without_the_undecided(tmp_path):
    rows = [vote(w, w) for w in ("model_a", "model_b", "tie", "tie (bothbad)")]
    items = PPE.read(write(tmp_path / "PPE-Human-Preference-V1/test-0.parquet", rows))
    assert [item.responses for item in items] == [["one", "two"], ["two", "one"]]
    assert items[1].id == "model_b"
    assert figures(PPE, items, [[1, 0], [1, 1]]) == {"human": 0.5}  # a tie of scores is lost


def test_samples_by_hand(tmp_path):
    rows = [samples([0, 1, 0, 1], [(1, 0), (2, 3), (1, 3)])]  # the last are both right
    items = PPE.read(write(tmp_path / "PPE-MATH-Best-of-K/data/train-0.parquet", rows))
    assert items[0].subset == "math"
    assert items[0].responses == ["sample 1", "sample 3", "sample 0", "sample 2"]
    assert [*items[0].pairs] == [(0, 2), (1, 3)]
    # samples 1, 3 (right), 0, 2 (wrong)
    found = figures(PPE, items, [[3, 1, 2, 1]])
    assert found == {
        "correctness_pairs": 0.5,  # 3 > 2, not 1 > 1
        "correctness_auc": pytest.approx((1 + 1 + 0 + 0.5) / 4),
        "correctness_best_of_k": 1,
    }
    assert figures(PPE, items, [[3, 1, 3, 3]])["correctness_best_of_k"] == pytest.approx(1 / 3)
    assert figures(PPE, items, [[NAN, 1, 0, 0]])["correctness_pairs"] == 0.5
    assert PPE.judge(items, [np.array([3.0, 1, 3, 3])]).values == pytest.approx([1 / 3])


@pytest.mark.parametrize(
    ("path", "subset"),
    [
        ("PPE-MMLU-Pro-Best-of-K/train-0.parquet", "mmlu_pro"),
        ("mbpp_plus_best_of_k.jsonl", "mbpp_plus"),
        ("PPE-MATH-Best-of-K/gpqa_best_of_k.json", "gpqa"),
        ("mine.jsonl", "samples"),
    ],
)
def test_the_path_says_what_the_questions_are_from(tmp_path, path, subset):
    items = PPE.read(write(tmp_path / path, [samples([0, 1])]))
    assert items[0].subset == subset
    assert items[0].pairs == []
    judged = PPE.judge(items, [np.array([1.0, 0.0])])
    assert [*judged.groups] == [f"{subset}/auc", f"{subset}/best_of_k"]
    assert [*figures(PPE, items, [[1, 0]])] == ["correctness_auc", "correctness_best_of_k"]


def test_sources_count_the_same(tmp_path):
    write(tmp_path / "PPE-MATH-Best-of-K.json", [samples([1, 0], [(0, 1)], str(n)) for n in "abc"])
    write(tmp_path / "PPE-GPQA-Best-of-K.json", [samples([1, 0, 0], [(0, 1)])])
    write(tmp_path / "votes.json", [vote("model_a")])
    items = PPE.read(str(tmp_path))
    assert [item.subset for item in items] == ["gpqa", "math", "math", "math", "human"]
    found = figures(PPE, items, [[1, 0, 0], [0, 1], [0, 1], [0, 1], [1, 0]])
    assert found == {
        "human": 1,
        "correctness_pairs": 0.5,
        "correctness_auc": 0.5,
        "correctness_best_of_k": 0.5,
    }
    chance_is_the_mean_over_random_scores(PPE, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "rows.jsonl"
    refused(PPE, file, vote("both"), ":1", "'winner' is 'both'")
    refused(PPE, file, samples([1, 1]), ":1", "'scores'", "all samples are right")
    refused(PPE, file, samples([1, 0], scores=[0.5, 1]), ":1", "'scores'")
    refused(PPE, file, samples([1, 0], scores=[1, 0, 1]), ":1", "'response_3'")
    refused(PPE, file, samples([1, 0], [(0, 2)]), ":1", "'sampled_conflict_pairs' has [0, 2]")
    refused(PPE, file, samples([1, 0], [(0, 1, 1)]), ":1", "'sampled_conflict_pairs'")
