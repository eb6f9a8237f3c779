import json
import re
from pathlib import Path

import pytest

from rbs_jax.cli import main
from rbs_jax.eval.benchmark import evaluate


@pytest.fixture(scope="module")
def folders(runs, pairs, tmp_path_factory):
    """Two models on one suite, one on another, and a run that watched one."""
    place = tmp_path_factory.mktemp("results")
    for name in ("one", "other"):
        evaluate(str(runs / name), "pairs", str(pairs), f"{place}/{name}")
    row = {"prompt": "abcd", "chosen": "efgh", "rejected": "ij", "subset": "natural"}
    (place / "llmbar.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    evaluate(str(runs / "one"), "llmbar", f"{place}/llmbar.jsonl", f"{place}/llmbar")
    run = place / "run"
    run.mkdir()
    figures = {"pairs": {"n": 24, "accuracy": 0.4, "ci95": [0.3, 0.5]}}
    fields = {
        "checkpoint": "run@20",
        "chosen_by": "valid same_document",
        "suites": {"untrained": figures, "trained": figures},
    }
    (run / "result.json").write_text(json.dumps(fields))
    records = [{"step": 10, "suite_pairs": 0.45}, {"step": 20, "heldout_same_document": 0.6}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return [f"{place}/{name}" for name in ("one", "other", "llmbar", "run")]


def test_one_page_holds_every_result_its_controls_and_the_comparison(folders, tmp_path, capsys):
    out = tmp_path / "page"
    assert main(["report", *folders, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    names = ("Headlines", "pairs", "llmbar", "Models against each other", f"Run {folders[3]}")
    lines = said.splitlines()
    assert [line for line in lines if line in names] == list(names)
    table = next(n for n, line in enumerate(lines) if line.startswith("  pairs, "))
    expected = json.loads(Path(folders[0], "result.json").read_text())
    low, high = expected["ci95"]
    assert f"24     {expected['accuracy']:.3f}  [{low:.3f}, {high:.3f}]" in lines[table]
    for control in expected["controls"]:
        assert control.replace("_", " ") in said
    assert "The reported model is step 20, chosen by valid same_document" in said
    assert "suite pairs: 0: 0.400, 10: 0.450" in said
    assert "LLMBar: two outputs, of which one follows" in said
    kept = json.loads((out / "result.json").read_text())
    assert kept["folders"] == folders
    assert [each["suite"] for each in kept["comparisons"]] == ["pairs"]
    page = (out / "report.html").read_text()
    assert page.count("<img") == 2 + 2 + 1  # accuracy and reliability of each suite, one run
    assert "<script" not in page
    assert not re.search(r'(src|href)="http', page)


def test_a_page_is_not_written_over_another_and_needs_folders(folders, tmp_path, capsys):
    assert main(["report", folders[0], "--out", str(tmp_path)]) == 0
    assert main(["report", folders[0], "--out", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["report", "--out", str(tmp_path / "other")]) == 2
    assert "give the folders of results" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 2
    assert "none/result.json: no such file" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_result_on_a_corpus_and_an_unjudged_one_have_their_place(tmp_path, capsys):
    for name, fields in {
        "heldout": {
            "suite": "heldout",
            "model": "m@1",
            "n": 90,
            "accuracy": 0.7,
            "ci95": [0.6, 0.8],
            "controls": {"longer": None, "random_head": None, "chance": 0.5, "word_overlap": 0.8},
        },
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(fields))
    assert main(["report", str(tmp_path / "heldout"), "--out", str(tmp_path / "page")]) == 0
    said = capsys.readouterr().out
    assert "word overlap 0.800" in said
