import json

import numpy as np
import pytest

from rbs_jax.checkers.checker import Checker, Verdict
from rbs_jax.cli import main
from rbs_jax.eval import portions
from rbs_jax.eval.best_of_n import best_of_n
from rbs_jax.eval.combine import combine
from rbs_jax.score.scorer import Scorer
from tests.eval.candidates import read, rows, write
from tests.sample.server import stand_in


def test_the_figures_are_those_of_the_scores(picked, runs, candidates):
    found = json.loads((picked / "one" / "result.json").read_text())
    lines = read(picked / "one" / "scores.jsonl")
    made = rows()
    scores = Scorer(str(runs / "one")).score(
        [row["prompt"] for row in made], [row["responses"] for row in made]
    )
    for line, own in zip(lines, scores, strict=True):
        assert line["scores"] == pytest.approx(own, rel=1e-5, abs=1e-6)
        assert line["chosen"] == int(np.argmax(own))
    assert found["n"] == [1, 2, 4, 5]
    assert found["prompts"] == [24, 24, 16, 8]
    assert (found["responses"], found["prompts_in_all"], found["unscored"]) == (96, 24, 0)
    five = [(own, row["correct"]) for own, row in zip(scores, made, strict=True) if len(own) == 5]
    right = [correct[int(np.argmax(own))] for own, correct in five]
    assert found["rm"][-1] == pytest.approx(np.mean(right))
    assert found["oracle"][-1] == pytest.approx(np.mean([any(correct) for _, correct in five]))
    everyone = [np.mean(row["correct"]) for row in made]
    assert found["rm"][0] == pytest.approx(np.mean(everyone))
    assert set(found["by_source"]) == {"a", "b"}
    assert found["random_heads_on"] == f"{runs}/language@7"
    assert found["language_model"] == f"{runs}/language@7"
    controls = {"longer", "shorter", "word_overlap", "log_likelihood", "logp", "random_head"}
    assert controls < set(found["controls"])
    longest = [row["correct"][int(np.argmax(row["gold"]))] for row in made if len(row["gold"]) == 5]
    assert found["controls"]["longer"][-1] == pytest.approx(np.mean(longest))


def test_the_best_response_of_each_prompt_is_written(picked):
    best = read(picked / "one" / "best.jsonl")
    lines = read(picked / "one" / "scores.jsonl")
    assert len(best) == 24
    for own, row, line in zip(best, rows(), lines, strict=True):
        assert own == {
            "id": row["id"],
            "prompt": row["prompt"],
            "response": row["responses"][line["chosen"]],
            "score": max(line["scores"]),
        }


def test_the_same_command_scores_nothing_again(picked, runs, candidates, monkeypatch):
    before = {file.name: file.read_bytes() for file in (picked / "one").iterdir() if file.is_file()}
    monkeypatch.setattr("rbs_jax.score.scorer.calls", None)
    best_of_n(str(runs / "one"), candidates, str(picked / "one"))
    after = {file.name: file.read_bytes() for file in (picked / "one").iterdir() if file.is_file()}
    assert after == before


def test_a_stopped_command_goes_on(runs, candidates, tmp_path, monkeypatch):
    monkeypatch.setattr(portions, "RESPONSES", 30)
    out, put, written = tmp_path / "out", portions.put_text, []

    def stopping(text, to):
        put(text, to)
        written.append(to)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(portions, "put_text", stopping)
    with pytest.raises(KeyboardInterrupt):
        best_of_n(str(runs / "one"), candidates, str(out))
    monkeypatch.setattr(portions, "put_text", put)
    assert [path.name for path in out.iterdir()] == ["kept"]
    asked = []
    scored = Scorer.scored
    monkeypatch.setattr(
        Scorer, "scored", lambda self, *args: asked.append(len(args[0])) or scored(self, *args)
    )
    best_of_n(str(runs / "one"), candidates, str(out))
    assert sum(asked) == 24 - 2 * 7 + 24  # the rest of the rewards, and all of the random heads
    expected = tmp_path / "expected"
    best_of_n(str(runs / "one"), candidates, str(expected))
    for name in ("result.json", "scores.jsonl", "best.jsonl"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()


def test_a_response_beyond_the_context_is_picked_last_and_counted(runs, tmp_path):
    lines = [
        {"prompt": f"p{at}", "responses": ["a b", "x" * 500, "c"], "correct": [False, True, False]}
        for at in range(3)
    ]
    lines.append({"prompt": "none fits", "responses": ["y" * 500], "correct": [True]})
    lines.append({"prompt": "no candidate", "responses": [], "correct": []})
    out = tmp_path / "out"
    found = best_of_n(str(runs / "one"), write(tmp_path / "c.jsonl", lines), str(out))
    assert found["unscored"] == 4
    assert found["n"] == [1, 2, 3]
    assert found["rm"] == pytest.approx([(3 / 3 + 1) / 4, 0, 0])
    assert found["oracle"][-1] == 1
    assert [line["chosen"] for line in read(out / "scores.jsonl")][3:] == [None, None]
    assert len(read(out / "best.jsonl")) == 3


CHECKER = """
def even(fields, response):
    return len(response) % 2 == 0, f"{len(response) % 4}"

def share(fields, response):
    return 0.5
"""


def test_a_checker_says_what_is_right_and_what_is_answered(runs, candidates, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CHECKER)
    monkeypatch.chdir(tmp_path)
    found = best_of_n(str(runs / "one"), candidates, str(tmp_path / "out"), "mine:even")
    lines = read(tmp_path / "out" / "scores.jsonl")
    for line, row in zip(lines, rows(), strict=True):
        assert line["correct"] == [float(len(text) % 2 == 0) for text in row["responses"]]
        assert line["answers"] == [f"{len(text) % 4}" for text in row["responses"]]
    assert found["checker"] == "mine:even"
    found = best_of_n(str(runs / "one"), candidates, str(tmp_path / "out"), "mine:share")
    assert found["rm"] == pytest.approx([0.5] * 4)
    assert found["mixed"] == 0
    assert read(tmp_path / "out" / "scores.jsonl")[0]["answers"] == rows()[0]["answers"]


def test_a_prompt_counts_as_often_as_the_checker_says(runs, candidates, tmp_path, monkeypatch):
    def check_all(_, records, responses, __):
        return [
            [Verdict(float(at < 6), None)] * len(own)
            for at, (_, own) in enumerate(zip(records, responses, strict=True))
        ]

    def weight(fields):
        return 3 if int(fields["id"].split()[1]) < 6 else 1

    monkeypatch.setattr("rbs_jax.eval.best_of_n.check_all", check_all)
    monkeypatch.setattr(
        "rbs_jax.eval.best_of_n.find_checker", lambda _: Checker("", lambda *_: None, weight)
    )
    found = best_of_n(str(runs / "one"), candidates, str(tmp_path / "out"), "mine")
    assert found["rm"][0] == pytest.approx(3 * 6 / (3 * 6 + 18))
    again = combine([str(tmp_path / "out")], "mean", str(tmp_path / "again"))
    assert again["rm"] == found["rm"]


def test_a_prompt_without_any_answer_has_no_vote_and_takes_none_away(
    runs, candidates, tmp_path, monkeypatch
):
    (tmp_path / "silent.py").write_text(
        "def f(fields, response):\n    return True, None if fields['id'] == 'row 3' else 'x'\n"
    )
    monkeypatch.chdir(tmp_path)
    found = best_of_n(str(runs / "one"), candidates, str(tmp_path / "out"), "silent:f")
    assert found["majority"] == pytest.approx([1] * 4)
    lines = read(tmp_path / "out" / "scores.jsonl")
    assert set(lines[3]["answers"]) == {None}
    assert set(lines[4]["answers"]) == {"x"}


def test_candidates_are_drawn_from_a_server_and_kept(runs, tmp_path, capsys, monkeypatch):
    (tmp_path / "yes.py").write_text("def f(fields, response):\n    return 'yes' in response\n")
    monkeypatch.chdir(tmp_path)
    prompts = [{"id": at, "prompt": f"prompt {at}"} for at in range(4)]
    command = ["bon", str(runs / "one"), write(tmp_path / "p.jsonl", prompts), "--out", "out"]
    with stand_in() as server:
        command += ["--sample", server.url, "--sampling.n", "3"]
        for wrong in (["--checker", "yes:none"], ["--language-model", "nowhere"]):
            assert main([*command, *wrong]) == 2
        assert main([*command, "--checker", "math"]) == 2
        assert "p.jsonl:1, response 1: no field 'answer'" in capsys.readouterr().err
        assert main([*command[:1], "nowhere", *command[2:]]) == 2
        assert server.draws == []
        assert main([*command, "--checker", "yes:f"]) == 0
        assert len(server.draws) == 12
        assert main([*command, "--checker", "yes:f"]) == 0
        assert len(server.draws) == 12
    assert "12 candidates of 4 prompts; at most 3 a prompt" in capsys.readouterr().out
    drawn, lines = read(tmp_path / "out" / "candidates.jsonl"), read(tmp_path / "out/scores.jsonl")
    for own, line in zip(drawn, lines, strict=True):
        assert line["correct"] == [float("yes" in text) for text in own["responses"]]
        assert line["logprob"] == own["logprob"]
    again = best_of_n(str(runs / "other"), "out/candidates.jsonl", "again", "yes:f")
    assert again["oracle"] == json.loads((tmp_path / "out/result.json").read_text())["oracle"]


def test_without_a_word_on_what_is_right_there_are_scores_and_the_best(runs, tmp_path, capsys):
    lines = [{key: row[key] for key in ("prompt", "responses")} for row in rows()]
    file, out = write(tmp_path / "c.jsonl", lines), tmp_path / "out"
    assert main(["bon", str(runs / "one"), file, "--out", str(out)]) == 0
    assert "it is not known which are right" in capsys.readouterr().out
    found = json.loads((out / "result.json").read_text())
    assert (found["rm"], found["oracle"], found["map"]) == (None, None, None)
    assert len(read(out / "best.jsonl")) == 24


def test_the_command_prints_the_curve_and_where_the_result_is(runs, candidates, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["bon", str(runs / "one"), candidates, "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "96 candidates of 24 prompts; at most 5 a prompt" in printed
    for word in ("over random", "oracle", "majority", "word overlap", "peak d", "within sources"):
        assert word in printed
    assert printed.endswith(f"{out}/result.json\n")


GOOD = {"prompt": "p", "responses": ["a", "b"]}


@pytest.mark.parametrize(
    ("line", "options", "said"),
    [
        (GOOD | {"correct": [True]}, [], "c.jsonl:1: field 'correct' must be a list of 2"),
        ({"prompt": "p"}, [], "c.jsonl:1: no field 'responses'"),
        (GOOD, ["--checker", "maths"], "no checker 'maths'"),
        (GOOD, ["--checker", "math"], "c.jsonl:1, response 1: no field 'answer'"),
        (GOOD, ["--language-model", "one"], "is a reward model"),
        (None, [], "c.jsonl: holds no line"),
        ("absent", [], "c.jsonl: no such file"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(
    runs, tmp_path, monkeypatch, capsys, line, options, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").symlink_to(runs / "one")
    if line != "absent":
        write(tmp_path / "c.jsonl", [] if line is None else [line])
    assert main(["bon", "one", "c.jsonl", "--out", "out", *options]) == 2
    (told,) = (own for own in capsys.readouterr().err.splitlines() if own.startswith("rbs:"))
    assert said in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["run", "evaluation", "combination"])
def test_another_result_is_not_written_over(runs, candidates, tmp_path, capsys, kind):
    out = runs / "one" if kind == "run" else tmp_path
    if kind == "evaluation":
        (tmp_path / "result.json").write_text('{"suite": "pairs"}')
    if kind == "combination":
        (tmp_path / "result.json").write_text('{"rm": [], "rule": "mean"}')
    assert main(["bon", str(runs / "one"), candidates, "--out", str(out)]) == 2
    assert "give another --out" in capsys.readouterr().err
