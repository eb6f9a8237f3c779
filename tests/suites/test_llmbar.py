import pytest

from rbs_jax.suites.llmbar import LLMBAR
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)


def row(label=1, **other):
    return {"input": "do it", "output_1": "one", "output_2": "two", "label": label} | other


def test_folders_as_published(tmp_path):
    folder = tmp_path / "Dataset/LLMBar"
    write(folder / "Natural/dataset.json", [row(1), row(2)])
    write(folder / "Natural/evaluators/GPT-4/CoT/result.json", [row() | {"results": 1}])
    (folder / "Natural/evaluators/GPT-4/CoT/statistics.json").write_text("{}")
    write(folder / "Adversarial/Neighbor/dataset.json", [row()])
    write(folder / "Adversarial/GPTOut/dataset.json", [row()] * 3)
    write(tmp_path / "Dataset/CaseStudy/Negation/dataset.json", [row()])
    items = LLMBAR.read(f"{tmp_path}/Dataset")
    subsets = ["Negation", *["adver-GPTOut"] * 3, "adver-neighbor", "natural", "natural"]
    assert [item.subset for item in items] == subsets
    assert [item.responses for item in items[-2:]] == [["one", "two"], ["two", "one"]]
    assert len({item.id for item in items}) == 7
    scores = [[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [1, 0], [1, 1]]
    assert figures(LLMBAR, items, scores) == {
        "all_rows": pytest.approx((1 + 3 + 0 + 1 + 0.5) / 7),
        "natural": 0.75,
        "adversarial": 0.5,
    }
    chance_is_the_mean_over_random_scores(LLMBAR, items)


def test_flat_rows(tmp_path):
    rows = [{"id": "x", "prompt": "p", "chosen": "a", "rejected": "b", "subset": "adver-manual"}]
    items = LLMBAR.read(write(tmp_path / "rows.jsonl", rows))
    assert (items[0].id, items[0].subset, items[0].responses) == ("x", "adver-manual", ["a", "b"])
    assert figures(LLMBAR, items, [[1, 0]]) == {"all_rows": 1, "adversarial": 1}


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "Natural/dataset.json"
    refused(LLMBAR, file, row(0), "row 1", "'label' is 0")
    refused(LLMBAR, file, row(output_2=None), "row 1", "'output_2'")
    refused(LLMBAR, file, {"prompt": "p", "chosen": "a", "rejected": "b"}, "row 1", "'subset'")
