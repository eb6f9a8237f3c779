import numpy as np
import pytest

from rbs_jax.statistics.figures import Group, mean
from rbs_jax.suites.items import Item
from rbs_jax.suites.rewardbench import PRIOR, REWARDBENCH, SECTIONS
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)


def row(subset, number=0, **other):
    return {
        "prompt": f"{subset} {number}",
        "chosen": "good",
        "chosen_model": "m",
        "rejected": "bad",
        "rejected_model": "m",
        "subset": subset,
        "id": number,
    } | other


def published(sections, prior=None):
    """Averages of figures that a leaderboard gives of sections."""
    figure = {subset: sections[name] for name in sections for subset in SECTIONS[name]}
    figure |= dict.fromkeys(PRIOR if prior else (), prior)
    items = [Item("0", subset, "p", ["a", "b"], 1) for subset in figure]
    groups = {subset: Group(np.array([value]), ["p"]) for subset, value in figure.items()}
    return {name: mean(groups, of) for name, of in REWARDBENCH.averages(items).items()}


ARMORM = {"Chat": 96.9, "Chat Hard": 76.8, "Safety": 92.2, "Reasoning": 97.3}
SKYWORK = {"Chat": 95.8, "Chat Hard": 91.4, "Safety": 92.0, "Reasoning": 96.1}


def test_published_totals():
    armorm = published(ARMORM, 74.3)
    assert armorm["average"] == pytest.approx(90.80)
    assert armorm["with_prior_sets"] == pytest.approx(88.97, abs=0.005)
    assert armorm["Prior Sets"] == pytest.approx(74.3)
    skywork = published(SKYWORK)
    assert skywork["average"] == pytest.approx(93.825)
    assert "with_prior_sets" not in skywork
    assert skywork["ID"] == pytest.approx(96.1)
    assert skywork["OOD-Safety"] == pytest.approx(92.0)
    assert skywork["OOD-Others"] == pytest.approx((95.8 + 91.4) / 2)


def test_the_split_has_2985_rows_and_mathematics_counts_as_code():
    counts = {subset: n for section in SECTIONS.values() for subset, n in section.items()}
    assert sum(counts.values()) - 984 + 447 == 2985
    code = [n for subset, n in counts.items() if subset.startswith("hep-")]
    assert sum(code) == counts["math-prm"] == 984


def test_a_section_counts_its_subsets_as_published(tmp_path):
    rows = [row("math-prm", n) for n in range(2)] + [row("hep-go"), row("hep-go", 1)]
    items = REWARDBENCH.read(write(tmp_path / "filtered-00000-of-00001.parquet", rows))
    assert [item.responses for item in items] == [["good", "bad"]] * 4
    assert [item.id for item in items] == ["0", "1", "0", "1"]
    found = figures(REWARDBENCH, items, [[1, 0], [1, 0], [1, 1], [0, 1]])  # a tie is lost
    expected = 984 / (984 + 164)
    assert found == pytest.approx(dict.fromkeys(("average", "Reasoning", "ID"), expected))
    chance_is_the_mean_over_random_scores(REWARDBENCH, items)


def test_prior_sets_take_their_file_names(tmp_path):
    talk = [{"role": "user", "content": "hello"}]
    for name in ("shp", "summarize"):
        rows = [row("askscience", prompt=talk)]
        write(tmp_path / f"data/{name}-00000-of-00001.parquet", rows)
    write(tmp_path / "data/pku_safer-00000-of-00001.parquet", [row("x", prompt=talk)])
    write(tmp_path / "data/raw-00000-of-00001.parquet", [row("hep-go"), row("unheard-of")])
    write(tmp_path / "data/filtered-00000-of-00001.parquet", [row("hep-go")])
    items = REWARDBENCH.read(str(tmp_path))
    assert [(item.subset, item.prompt) for item in items] == [
        ("hep-go", "hep-go 0"),
        ("shp", talk),
        ("summarize", talk),
    ]
    found = figures(REWARDBENCH, items, [[1, 0], [1, 0], [0, 1]])
    assert found["Prior Sets"] == 0.5
    assert found["with_prior_sets"] == pytest.approx((2 * 1 + 0.5) / 3)
    only = figures(REWARDBENCH, items[1:], [[1, 0], [0, 1]])
    assert only == {"Prior Sets": 0.5}


def test_rows_that_are_not_as_they_should_be(tmp_path):
    file = tmp_path / "filtered.parquet"
    refused(REWARDBENCH, file, row("hep-haskell"), "row 1", "'subset' is 'hep-haskell'")
    refused(REWARDBENCH, file, row("hep-go", chosen=["a"]), "row 1", "'chosen'")
