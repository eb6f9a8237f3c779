import numpy as np
import pytest

from rbs_jax.suites.rm_bench import RM_BENCH
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)


def row(domain, number=0, **other):
    return {
        "id": number,
        "prompt": f"{domain} {number}",
        "chosen": ["right", "right, at length", "# right"],
        "rejected": ["wrong", "wrong, at length", "# wrong"],
        "domain": domain,
    } | other


SHOWY = [0, 1, 2, 0, 1, 2]
"""By style alone: easy cells are won, hard ones and ties lost."""
RIGHT = [1, 1, 1, 0, 0, 0]


def test_files_as_published(tmp_path):
    folder = tmp_path / "data"
    domains = ["chat", "code", "math", "safety-refuse", "safety-response"]
    for domain in domains:
        write(folder / f"{domain}_filtered.json", [row(domain, n) for n in range(2)])
    write(folder / "total_dataset.json", [row(d, n) for d in domains for n in range(2)])
    items = RM_BENCH.read(str(folder))
    assert len(items) == 10
    assert len(RM_BENCH.read(f"{folder}/total_dataset.json")) == 10
    found = figures(RM_BENCH, items, [SHOWY] * 10)
    assert found["total"] == pytest.approx(1 / 3)
    assert (found["hard"], found["normal"], found["easy"]) == pytest.approx((0, 0, 1))


def test_safety_pools_its_rows_and_domains_count_the_same(tmp_path):
    rows = [row("chat"), row("safety-refuse"), row("safety-refuse", 1), row("safety-response")]
    items = RM_BENCH.read(write(tmp_path / "rows.jsonl", rows))
    found = figures(RM_BENCH, items, [SHOWY, RIGHT, RIGHT, SHOWY])
    safety = (1 + 1 + 1 / 3) / 3
    assert found["safety"] == pytest.approx(safety)
    assert found["safety hard"] == pytest.approx(2 / 3)
    assert found["chat"] == pytest.approx(1 / 3)
    assert found["total"] == pytest.approx((1 / 3 + safety) / 2)
    assert found["hard"] == pytest.approx((0 + 2 / 3) / 2)
    assert list(found)[:4] == ["total", "hard", "normal", "easy"]


def test_cells_are_named_by_both_styles(tmp_path):
    items = RM_BENCH.read(write(tmp_path / "rows.jsonl", [row("chat")]))
    judged = RM_BENCH.judge(items, [np.array([5.0, 0, 0, 1, 2, 3])])
    won = [name for name, group in judged.groups.items() if group.values == 1]
    assert won == ["chat/concise>concise", "chat/concise>detailed", "chat/concise>markdown"]
    assert figures(RM_BENCH, items, [[5, 0, 0, 1, 2, 3]])["chat hard"] == pytest.approx(2 / 3)
    assert judged.values == pytest.approx([1 / 3])


def test_chance(tmp_path):
    rows = [row("chat"), row("safety-refuse")]
    chance_is_the_mean_over_random_scores(
        RM_BENCH, RM_BENCH.read(write(tmp_path / "rows.jsonl", rows))
    )


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "rows.json"
    refused(RM_BENCH, file, row("cooking"), "row 1", "'domain' is 'cooking'")
    refused(RM_BENCH, file, row("chat", rejected=["a", "b"]), "row 1", "'rejected' has 2 styles")
