import pytest

from rbs_jax.suites.items import Item
from rbs_jax.suites.judgebench import JUDGEBENCH
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)


def row(source="mmlu-pro-math", label="A>B", **other):
    return {
        "pair_id": f"{source} {label}",
        "original_id": "1",
        "source": source,
        "question": f"of {source}?",
        "response_model": "m",
        "response_A": "a",
        "response_B": "b",
        "label": label,
    } | other


ROWS = [row(), row("mmlu-pro-law", "B>A"), row("livecodebench"), row("my-own", "B>A")]


@pytest.mark.parametrize("name", ["dataset=judgebench,response_model=m.jsonl", "gpt-0.parquet"])
def test_files_as_published(tmp_path, name):
    items = JUDGEBENCH.read(write(tmp_path / name, ROWS))
    assert [item.responses for item in items] == [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]
    assert items[1].id == "mmlu-pro-law B>A"
    found = figures(JUDGEBENCH, items, [[1, 0], [1, 1], [1, 0], [0, 1]])  # a tie is lost
    assert found == {"all_rows": 0.5, "mmlu-pro": 0.5, "livecodebench": 1, "my-own": 0}
    chance_is_the_mean_over_random_scores(JUDGEBENCH, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "rows.jsonl"
    refused(JUDGEBENCH, file, row(label="A=B"), ":1", "'label' is 'A=B'", "A>B, B>A")
    refused(JUDGEBENCH, file, row(response_B=None), ":1", "'response_B'")
    refused(JUDGEBENCH, file, row(source=None), ":1", "'source'")


def test_no_source_takes_the_place_of_the_headline(tmp_path):
    names = ("all_rows", "mmlu-pro", "mmlu-pro")
    items = [Item(str(n), name, f"p{n}", ["a", "b"], 1) for n, name in enumerate(names)]
    assert next(iter(JUDGEBENCH.averages(items).values())) == pytest.approx(
        {"all_rows": 1 / 3, "mmlu-pro": 2 / 3}
    )
