import base64
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from rbs_jax.bon.figures import figures
from rbs_jax.choose.table import RULES
from rbs_jax.errors import UserError
from rbs_jax.eval.compare import Picked, read_folders
from rbs_jax.eval.overview import report
from rbs_jax.eval.page import Plot, Section, Table, as_html, as_text
from rbs_jax.eval.picked import curve_table, picked_sections, told
from rbs_jax.files import json_text
from tests.bon.made import pool, random_pools

ABOUT = {
    "file": "candidates.jsonl",
    "candidates": "0123",
    "labels": "89ab",
    "checker": "math",
    "responses": 96,
    "unscored": 2,
    "random_heads_on": "language",
    "language_model": "language",
    "model": "one",
}


def full():
    """A result that has everything."""
    pools = random_pools(
        12,
        8,
        answers=lambda chance, n: [str(a) for a in chance.integers(3, size=n)],
        gold=lambda chance, n: chance.normal(size=n),
        logprob=lambda chance, n: chance.normal(size=n),
        source=lambda _, n: ["ab"[k % 2] for k in range(n)],
    )
    return ABOUT | figures(pools, RULES["mean"])


def bare():
    """A result that knows nothing beside scores."""
    pools = [pool([1, 2, 3], None, at) for at in range(3)]
    return ABOUT | {"checker": None, "language_model": None} | figures(pools, RULES["mean"])


@pytest.fixture
def folders(tmp_path):
    for name, fields in (("one", full()), ("two", full() | {"model": "two"}), ("bare", bare())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json_text(fields))
    return [str(tmp_path / name) for name in ("one", "two", "bare")]


def test_the_table_has_a_column_for_each_n_and_a_row_for_what_is_known():
    found = full()
    table = curve_table(found)
    assert list(table.head) == ["n", "1", "2", "4", "8"]
    rows = {name: cells for name, *cells in table.rows}
    assert rows["prompts"] == ["12"] * 4
    assert rows["KL up to [nats]"] == ["0.00", "0.19", "0.64", "1.20"]
    assert rows["rm"] == [f"{value:.3f}" for value in found["rm"]]
    assert rows["  over random"][2] == f"{found['above_random'][2]:+.3f}"
    assert rows["oracle"][2] == f"{found['oracle'][2]:.3f} "
    for name in ("random", "logp", "longer", "random head", "majority", "weighted majority"):
        assert len(rows[name]) == 4, name
    assert [row[0] for row in curve_table(bare()).rows] == ["prompts", "KL up to [nats]"]


def test_a_star_marks_what_the_model_is_not_above():
    found = full()
    found["inside_controls"] = [["chance", "longer"], ["longer"], [], ["random_head"]]
    rows = {name: cells for name, *cells in curve_table(found).rows}
    stars = {
        name: [cell.endswith("*") for cell in rows[name]]
        for name in ("random", "longer", "random head", "logp")
    }
    assert stars == {
        "random": [True, False, False, False],
        "longer": [True, True, False, False],
        "random head": [False, False, False, True],
        "logp": [False] * 4,
    }


def test_a_result_is_told_whole():
    said = as_text("", [Section("", told(full()))])
    for piece in (
        "96 candidates of 12 prompts; at most 8 a prompt, 12 prompts with right and wrong ones",
        "right by math (MATH: math-verify holds the answers equal)",
        "2 have no score and are picked last",
        "MAP, n chosen here",
        "peak d",
        "within sources: at most 4 a prompt",
    ):
        assert piece in " ".join(said.split()), piece
    assert "it is not known which are right" in " ".join(
        as_text("", [Section("", told(bare()))]).split()
    )


def test_results_on_the_same_candidates_share_a_section(folders):
    _, picked, _ = read_folders(folders)
    assert [each.name for each in picked] == [
        f"one ({folders[0]})",
        "two",
        f"one ({folders[2]})",
    ]
    (section,) = picked_sections(picked[:2])
    assert section.title == "Best of N: candidates.jsonl"
    captions = [part.caption for part in section.parts if isinstance(part, Plot)]
    assert captions == [
        "Accuracy of what is picked",
        "Accuracy of what is picked, within a",
        "Accuracy of what is picked, within b",
        f"Gold score against proxy, {picked[0].name}",
        "Gold score against proxy, two",
    ]
    for change in ({"candidates": "4567"}, {"labels": "cdef"}):
        other = Picked("x", picked[1].fields | change)
        assert len(picked_sections([picked[0], other])) == 2


def test_the_last_point_of_each_curve_is_a_headline(folders, tmp_path):
    said = report(folders, tmp_path / "page").splitlines()
    found = full()
    assert said.index("Headlines") < said.index("Best of N: candidates.jsonl")
    (row,) = [line for line in said if line.startswith("  best of 8, two ")]
    low, high = found["rm_ci95"][-1]
    assert row.split()[4:8] == ["12", f"{found['rm'][-1]:.3f}", f"[{low:.3f},", f"{high:.3f}]"]
    assert f" {found['random'][-1]:.3f} " in row
    assert not any("best of 3" in line for line in said)


def test_a_result_that_lacks_something_is_named(folders, tmp_path):
    (tmp_path / "two" / "result.json").write_text(json_text(full() | {"model": None}))
    with pytest.raises(UserError, match=r"two/result\.json: 'model' is no string; run rbs bon"):
        read_folders(folders)
    fields = full()
    del fields["mixed"]
    (tmp_path / "one" / "result.json").write_text(json_text(fields))
    with pytest.raises(UserError, match=r"one/result\.json: has no 'mixed'; run rbs bon again"):
        read_folders(folders)


def test_curves_and_laws_are_drawn_where_they_are(folders):
    _, picked, _ = read_folders(folders)
    (section,) = picked_sections(picked[:2])
    plot, _, _, gold, _ = (part for part in section.parts if isinstance(part, Plot))

    found = picked[0].fields
    drawn = lines_of(plot)
    assert drawn["two"] == (found["n"], found["rm"])
    assert drawn["oracle"] == (found["n"], found["oracle"])
    assert {"random", "logp", "majority", "longer"} < set(drawn)
    own = {"weighted majority", "random head"}  # which hang on the model
    assert not own & set(drawn)
    assert own < set(lines_of(picked_sections(picked[:1])[0].parts[1]))
    drawn = lines_of(gold)
    x, y = drawn["law of best of n"]
    fit = found["overoptimisation"]["laws"]["best_of_n"]
    assert y[-1] == pytest.approx(x[-1] * (fit["alpha"] - fit["beta"] * x[-1]))
    x, y = drawn["law of rl"]
    fit = found["overoptimisation"]["laws"]["rl"]
    assert y[50] == pytest.approx(x[50] * (fit["alpha"] - fit["beta"] * np.log(x[50])))
    for name in ("proxy", "gold"):
        gains = found["overoptimisation"][f"{name}_gain"]
        assert drawn[f"{name}, gain over n = 1"][1] == gains


def lines_of(plot):
    """What a plot draws, by label."""
    figure = Figure()
    plot.draw(figure.add_subplot())
    drawn = [line for axes in figure.axes for line in axes.get_lines()]
    return {own.get_label(): (list(own.get_xdata()), list(own.get_ydata())) for own in drawn}


def test_they_stand_on_the_common_page(folders, tmp_path):
    said = report(folders, tmp_path / "page")
    assert "Best of N: candidates.jsonl" in said
    page = (tmp_path / "page" / "report.html").read_text()
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    assert len(images) == 5
    assert b"upper bound of the KL" in base64.b64decode(images[0])


def test_few_points_have_no_law_and_one_candidate_a_curve_of_one_point():
    pools = [pool([1.0], [1], at, gold=[2.0]) for at in range(3)]
    found = Picked("one", ABOUT | figures(pools, RULES["mean"]))
    (section,) = picked_sections([found])
    assert "Too few sizes for a law" in as_text("", [section])
    as_html("", [section])
    tables = [part for part in section.parts if isinstance(part, Table)]
    assert list(tables[0].head) == ["n", "1"]


def test_no_candidates_at_all_are_told(tmp_path):
    found = ABOUT | figures([pool([], [])], RULES["mean"])
    assert "at most 0 a prompt" in as_text("", picked_sections([Picked("one", found)]))
