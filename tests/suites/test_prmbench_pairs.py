import pytest

from rbs_jax.suites.prmbench_pairs import PRMBENCH_PAIRS
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)


def published(kind="circular", **other):
    return {
        "original_question": "what is 1 + 1?",
        "modified_question": "what is 1 + 1?",
        "original_process": ["1. two", "2. done"],
        "modified_process": ["1. three", "2. done"],
        "modified_steps": [1],
        "error_steps": [1],
        "reason": "it is two",
        "idx": f"{kind}_0",
        "question": "what is $1 + 1$?",
        "classification": kind,
    } | other


def flat(kind="circular", **other):
    return {
        "id": f"{kind}-0",
        "subset": kind,
        "prompt": "what is 1 + 1?",
        "modified_prompt": None,
        "chosen": "two",
        "rejected": "three",
    } | other


def test_it_says_that_it_is_derived():
    assert "derived" in PRMBENCH_PAIRS.about
    assert "no PRMBench score" in PRMBENCH_PAIRS.about


def test_rows_as_published(tmp_path):
    rows = [
        published(),
        published("counterfactual", modified_question="what is $1 + 1$?"),
        published("deception", modified_question="what is 1 + 2?"),
    ]
    items = PRMBENCH_PAIRS.read(write(tmp_path / "prmbench_preview.jsonl", rows))
    assert items[0].prompt == "what is 1 + 1?"
    assert items[0].responses == ["1. two\n2. done", "1. three\n2. done"]
    assert [(item.id, item.subset) for item in items] == [
        ("circular_0", "circular"),
        ("counterfactual_0", "counterfactual"),
        ("deception_0", "deception, other question"),
    ]
    del rows[0]["original_question"]
    items = PRMBENCH_PAIRS.read(write(tmp_path / "prmbench_preview.jsonl", rows))
    assert items[0].prompt == "what is $1 + 1$?"


def test_flat_rows_and_figures(tmp_path):
    rows = [
        flat(),
        flat("redundency", modified_prompt="what is 1 + 1?"),
        flat("confidence"),
        flat("deception", modified_prompt="what is 1 + 2?"),
    ]
    items = PRMBENCH_PAIRS.read(write(tmp_path / "rows.jsonl", rows))
    found = figures(PRMBENCH_PAIRS, items, [[1, 0], [1, 1], [0, 1], [1, 0]])
    assert found == {
        "same_question": pytest.approx((1 + 0.5 + 0) / 3),
        "simplicity": 0.75,
        "soundness": 0,
        "all_rows": (1 + 0.5 + 0 + 1) / 4,
    }
    assert [*figures(PRMBENCH_PAIRS, items[3:], [[1, 0]])] == ["all_rows"]
    chance_is_the_mean_over_random_scores(PRMBENCH_PAIRS, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "rows.jsonl"
    refused(PRMBENCH_PAIRS, file, published(modified_process=[]), ":1", "'modified_process'")
    refused(PRMBENCH_PAIRS, file, published(classification=None), ":1", "'classification'")
    refused(PRMBENCH_PAIRS, file, flat(rejected=["a"]), ":1", "'rejected'")
