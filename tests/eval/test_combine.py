import json
from typing import get_args, get_type_hints

import numpy as np
import pytest

from rbs_jax.checkers.table import CHECKERS
from rbs_jax.choose.table import RULES
from rbs_jax.cli import main
from rbs_jax.eval.best_of_n import best_of_n
from rbs_jax.eval.combine import combine
from rbs_jax.model_commands import Combine
from tests.eval.candidates import read, rows, write


def test_a_combination_is_not_written_over_what_it_is_made_of(picked, capsys):
    before = (picked / "one" / "result.json").read_bytes()
    one = str(picked / "one")
    assert main(["combine", one, "--rule", "mean", "--out", one]) == 2
    assert "is no result of this command" in capsys.readouterr().err
    assert (picked / "one" / "result.json").read_bytes() == before


def test_a_combination_is_not_written_over_one_that_it_is_made_of(picked, tmp_path, capsys):
    both = str(tmp_path / "both")
    combine([str(picked / "one")], "mean", both)
    assert main(["combine", both, "--rule", "mean", "--out", f"{both}/../both/"]) == 2
    assert "is one of the folders to combine; give another --out" in capsys.readouterr().err


def changed(picked, folder, change):
    """A copy of a result whose lines are changed."""
    folder.mkdir()
    (folder / "result.json").write_bytes((picked / "one" / "result.json").read_bytes())
    write(folder / "scores.jsonl", change(read(picked / "one" / "scores.jsonl")))
    return str(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "has 23 lines, "),
        (lambda lines: lines[::-1], "line 1: is of other candidates than in"),
        (
            lambda lines: [line | {"random_heads": line["random_heads"][:2]} for line in lines],
            "line 1: is of other candidates than in",
        ),
        (
            lambda lines: [line | {"correct": [1.0] * len(line["scores"])} for line in lines],
            "correct is not as in",
        ),
        (lambda lines: [line | {"answers": None} for line in lines], "answers is not as in"),
        (lambda lines: [line | {"weight": 2} for line in lines], "weight is not as in"),
    ],
)
def test_lines_that_do_not_fit_are_not_combined(picked, tmp_path, capsys, change, said):
    other = changed(picked, tmp_path / "changed", change)
    command = ["combine", str(picked / "one"), other, "--rule", "mean"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert said in told
    assert not (tmp_path / "out").exists()


def test_models_are_combined_without_running_them(picked, tmp_path, monkeypatch):
    monkeypatch.setattr("rbs_jax.train.models.load_model", None)
    folders = [str(picked / name) for name in ("one", "other")]
    found = combine(folders, "worst", str(tmp_path / "both"))
    each = [read(picked / name / "scores.jsonl") for name in ("one", "other")]
    lines = read(tmp_path / "both" / "scores.jsonl")
    for own, one, other in zip(lines, *each, strict=True):
        assert own["scores"] == np.minimum(one["scores"], other["scores"]).tolist()
        heads = np.minimum(one["random_heads"], other["random_heads"])
        assert own["random_heads"] == heads.tolist()
        assert own["controls"] == one["controls"]
    assert found["models"] == [
        json.loads((picked / name / "result.json").read_text())["model"]
        for name in ("one", "other")
    ]
    assert found["n"] == [1, 2, 4, 5]
    assert (tmp_path / "both" / "result.json").exists()
    for own, line in zip(read(tmp_path / "both" / "chosen.jsonl"), lines, strict=True):
        assert own == {"id": line["id"], "chosen": int(np.argmax(line["scores"])), "chance": 1}


@pytest.mark.parametrize("rule", ["mean", "log_sigmoid", "par", "round_robin", "knockout"])
def test_one_model_alone_picks_its_highest_by_every_rule(picked, tmp_path, rule):
    alone = json.loads((picked / "one" / "result.json").read_text())
    found = combine([str(picked / "one")], rule, str(tmp_path / "out"))
    assert found["rm"] == pytest.approx(alone["rm"])
    assert found["random_heads"] == pytest.approx(np.array(alone["random_heads"]))
    lines = read(picked / "one" / "scores.jsonl")
    picks = read(tmp_path / "out" / "chosen.jsonl")
    assert [own["chosen"] for own in picks] == [own["chosen"] for own in lines]
    assert (tmp_path / "out" / "scores.jsonl").exists() == (rule not in ("round_robin", "knockout"))


@pytest.mark.parametrize("rule", RULES)
def test_of_equals_the_first_is_chosen_and_of_none_none(picked, tmp_path, rule):
    def change(lines):
        for line, scores in zip(
            lines, ([7, 7, 1], [None] * 4, [None, 2, None, 2, 1]), strict=False
        ):
            line["scores"] = scores
        return lines

    one = changed(picked, tmp_path / "changed", change)
    combine([one], rule, str(tmp_path / "out"))
    equal, none, some = read(tmp_path / "out" / "chosen.jsonl")[:3]
    assert (none["chosen"], none["chance"]) == (None, None)
    assert (some["chosen"], equal["chosen"]) == (1, 0) or rule == "knockout"
    assert equal["chance"] == pytest.approx(0.5)


def test_the_commands_offer_every_rule_and_name_every_checker(capsys):
    assert get_args(get_type_hints(Combine)["rule"]) == tuple(RULES)
    with pytest.raises(SystemExit):
        main(["bon", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in CHECKERS)


def test_a_combination_can_be_combined_again(picked, tmp_path):
    folders = [str(picked / name) for name in ("one", "other")]
    combine(folders, "mean", str(tmp_path / "both"))
    again = combine([str(tmp_path / "both"), folders[0]], "mean", str(tmp_path / "again"))
    assert again["n"] == [1, 2, 4, 5]


def test_whitened_models_of_other_scales_count_alike(picked, tmp_path):
    folders = [str(picked / name) for name in ("one", "other")]
    big = tmp_path / "big"
    big.mkdir()
    (big / "result.json").write_bytes((picked / "other" / "result.json").read_bytes())
    lines = read(picked / "other" / "scores.jsonl")
    for line in lines:
        line["scores"] = [1000 * score + 7 for score in line["scores"]]
    write(big / "scores.jsonl", lines)
    expected = combine(folders, "mean", str(tmp_path / "a"), whiten=True)
    found = combine([folders[0], str(big)], "mean", str(tmp_path / "b"), whiten=True)
    assert found["rm"] == pytest.approx(expected["rm"])
    plain = combine([folders[0], str(big)], "mean", str(tmp_path / "c"))
    other = json.loads((picked / "other" / "result.json").read_text())
    assert plain["rm"] == pytest.approx(other["rm"])  # the larger scale alone decides


def test_only_results_on_the_same_candidates_are_combined(
    picked, runs, candidates, tmp_path, capsys
):
    write(tmp_path / "c.jsonl", rows()[:5])
    best_of_n(str(runs / "one"), f"{tmp_path}/c.jsonl", str(tmp_path / "few"))
    command = ["combine", str(picked / "one"), str(tmp_path / "few"), "--rule", "mean"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "few: is of other candidates than" in capsys.readouterr().err
    assert main(["combine", str(tmp_path), "--rule", "mean", "--out", str(tmp_path / "out")]) == 2
    assert "result.json: no result of rbs bon" in capsys.readouterr().err
    lines = (picked / "one" / "scores.jsonl").read_text()
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "result.json").write_bytes((picked / "one" / "result.json").read_bytes())
    (torn / "scores.jsonl").write_text(lines[: len(lines) // 2])
    assert main(["combine", str(torn), "--rule", "mean", "--out", str(tmp_path / "out")]) == 2
    assert "scores.jsonl:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["combine", "--rule", "mean", "--out", str(tmp_path / "out")]) == 2
    assert "give the folders that rbs bon wrote" in capsys.readouterr().err


def test_the_command_combines(picked, tmp_path, capsys):
    folders = [str(picked / name) for name in ("one", "other")]
    out = str(tmp_path / "out")
    assert main(["combine", *folders, "--rule", "knockout", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "over random" in printed
    assert f"knockout: {RULES['knockout'].about}" in " ".join(printed.split())
    assert printed.endswith(f"{out}/result.json\n")
