"""A file of prompts and responses, scored whole, in parts, and again after a stop."""

import json

import jax
import jax.numpy as jnp
import pytest

from rbs_jax.cli import main
from rbs_jax.score import files
from rbs_jax.score.scorer import Scorer
from rbs_jax.storage import names_in, read_text
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import TrainState
from tests.score.tiny import EXPERIMENT, PROMPTS, RESPONSES, TOKENS, loaded_on, scorer_on

GOOD = [
    {"prompt": p, "responses": r, "id": i, "odd": "\ud800 é", "scores": "were here"}
    for i, (p, r) in enumerate(zip(PROMPTS, RESPONSES, strict=True))
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two checkpoints, whose scores differ."""
    folder = tmp_path_factory.mktemp("run")
    loaded = loaded_on((1, 1, 1))
    none = jnp.zeros((), jnp.int32)
    with (
        jax.set_mesh(loaded.model.head[...].sharding.mesh),
        Checkpoints(folder, keep=2) as checkpoints,
    ):
        for step in (1, 2):
            model = jax.tree.map(lambda x, step=step: x * step, loaded.model)
            state = TrainState(model, {}, none, none)
            checkpoints.save(step, state, {"next_step": step}, EXPERIMENT, {})
    TOKENS.save(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def few_lines(monkeypatch):
    """So that a small file has several parts."""
    monkeypatch.setattr(files, "LINES", 3)


def text(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Watched:
    """How often the scorer is asked, and when it fails."""

    def __init__(self, monkeypatch):
        self.prompts, self.left, score = [], None, Scorer.score

        def watched(scorer, prompts, responses, names=None):
            if self.left == 0:
                raise KeyboardInterrupt
            if self.left is not None:
                self.left -= 1
            self.prompts += prompts
            return score(scorer, prompts, responses, names)

        monkeypatch.setattr(Scorer, "score", watched)


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


def test_a_file_comes_back_line_by_line_with_scores(run, tmp_path):
    (tmp_path / "in.jsonl").write_text(text(GOOD))
    out = tmp_path / "new" / "out.jsonl"
    result = files.score_file(run, str(tmp_path / "in.jsonl"), str(out))
    for line, good, own in zip(read(out), GOOD, Scorer(run).score(PROMPTS, RESPONSES), strict=True):
        assert line.pop("scores") == pytest.approx(own, rel=1e-4, abs=1e-5)
        assert line == {name: value for name, value in good.items() if name != "scores"}
    assert (result["lines"], result["responses"], result["null_scores"]) == (4, 8, 0)
    assert result["scored_before"] == 0 < result["responses_per_second"]
    assert 0 < result["shapes"]["compiled"] <= result["shapes"]["at_most"]
    assert [p.name for p in out.parent.iterdir()] == ["out.jsonl"]


def test_an_empty_file_gives_an_empty_file(run, tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    out = tmp_path / "out.jsonl"
    assert files.score_file(run, str(tmp_path / "in.jsonl"), str(out))["lines"] == 0
    assert out.read_text() == ""


@pytest.mark.parametrize("place", ["disk", "gs", "s3"])
def test_a_command_that_was_stopped_goes_on(run, tmp_path, watched, request, place):
    urls = {"gs": "gs", "s3": "bucket"}
    folder = request.getfixturevalue(urls[place]).url if place in urls else str(tmp_path)
    (tmp_path / "in.jsonl").write_text(text(GOOD * 3))
    file, out = str(tmp_path / "in.jsonl"), f"{folder}/out.jsonl"
    files.score_file(run, file, str(tmp_path / "unbroken.jsonl"))
    watched.prompts, watched.left = [], 2
    with pytest.raises(KeyboardInterrupt):
        files.score_file(run, file, out)
    assert watched.prompts == (PROMPTS * 3)[:6]
    watched.prompts, watched.left = [], None
    result = files.score_file(run, file, out)
    assert watched.prompts == (PROMPTS * 3)[6:]
    before = sum(map(len, (RESPONSES * 3)[:6]))
    assert (result["responses"], result["scored_before"]) == (24, before)
    assert read_text(out) == (tmp_path / "unbroken.jsonl").read_text()
    assert [name for name in names_in(folder) if "out.jsonl" in name] == ["out.jsonl"]


def test_a_stop_before_the_first_part_leaves_nothing(run, tmp_path, watched):
    (tmp_path / "in.jsonl").write_text(text(GOOD))
    watched.left = 0
    with pytest.raises(KeyboardInterrupt):
        files.score_file(run, str(tmp_path / "in.jsonl"), str(tmp_path / "new/deep/out.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def stopped(run, folder, watched):
    """A file of two parts, the first scored."""
    (folder / "in.jsonl").write_text(text(GOOD))
    watched.left = 1
    with pytest.raises(KeyboardInterrupt):
        files.score_file(run, str(folder / "in.jsonl"), str(folder / "out.jsonl"))
    (part,) = (folder / "out.jsonl.partial").iterdir()
    watched.prompts, watched.left = [], None
    return part


@pytest.mark.parametrize("change", ["nothing", "an edit", "another step", "another form", "a cut"])
def test_what_is_not_the_same_any_more_is_scored_anew(run, tmp_path, watched, change):
    part, lines, model, given = stopped(run, tmp_path, watched), list(GOOD), run, {}
    if change == "an edit":
        lines[2] = lines[2] | {"id": 99}
    elif change == "another step":
        model = f"{run}@1"
    elif change == "another form":
        given = {"form": "human_assistant"}
    elif change == "a cut":
        part.write_text(part.read_text()[:-3])
    (tmp_path / "in.jsonl").write_text(text(lines))
    out = tmp_path / "out.jsonl"
    result = files.score_file(model, str(tmp_path / "in.jsonl"), str(out), **given)
    assert watched.prompts == (PROMPTS[3:] if change == "nothing" else PROMPTS)
    assert result["scored_before"] == (5 if change == "nothing" else 0)
    files.score_file(model, str(tmp_path / "in.jsonl"), str(tmp_path / "fresh.jsonl"), **given)
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_a_bad_line_loses_nothing(run, tmp_path, watched, capsys):
    (tmp_path / "in.jsonl").write_text(text(GOOD) + "{\n")
    command = ["score", run, str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"rbs: {tmp_path}/in.jsonl:5: not valid JSON")
    assert said.endswith(
        f"what is done stays in {tmp_path}/out.jsonl.partial, the same command goes on"
    )
    assert not (tmp_path / "out.jsonl").exists()
    (tmp_path / "in.jsonl").write_text(text(GOOD))
    watched.prompts = []
    assert main(command) == 0
    assert watched.prompts == PROMPTS[3:]
    assert len(read(tmp_path / "out.jsonl")) == 4


def test_a_bad_first_line_leaves_what_another_command_has_begun(run, tmp_path, watched, capsys):
    part = stopped(run, tmp_path, watched)
    (tmp_path / "bad.jsonl").write_text("{\n")
    command = ["score", run, str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert main(command) == 2
    assert "goes on" not in capsys.readouterr().err
    assert part.exists()


def test_a_folder_of_other_things_is_never_taken(run, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(text(GOOD))
    (tmp_path / "out.jsonl.partial").mkdir()
    (tmp_path / "out.jsonl.partial" / "thesis.tex").write_text("mine")
    command = ["score", run, str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert main(command) == 2
    assert "out.jsonl.partial: holds thesis.tex, which is no part" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl.partial" / "thesis.tex").exists()


def test_two_commands_do_not_write_one_output(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.jsonl").write_text(text(GOOD))
    command = ["score", run, str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    score, other = files._score_lines, []

    def meanwhile(*args):
        if not other:
            other.append(None)
            other[0] = main(command)
        return score(*args)

    monkeypatch.setattr(files, "_score_lines", meanwhile)
    assert main(command) == 0
    assert other == [2]
    assert "another rbs command is at work there" in capsys.readouterr().err
    assert len(read(tmp_path / "out.jsonl")) == 4


def test_an_old_output_stays_until_the_new_one_is_whole(run, tmp_path, watched):
    (tmp_path / "out.jsonl").write_text("old")
    stopped(run, tmp_path, watched)
    assert (tmp_path / "out.jsonl").read_text() == "old"
    files.score_file(run, str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert len(read(tmp_path / "out.jsonl")) == 4


def test_the_shapes_are_told(run, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(text(GOOD))
    assert main(["score", run, f"{tmp_path}/in.jsonl", "--out", f"{tmp_path}/out.jsonl"]) == 0
    said, shapes = capsys.readouterr(), scorer_on().shapes
    assert shapes.compiled == 0
    assert "shapes compiled, at most" in said.err
    assert json.loads(said.out)["shapes"]["compiled"] > 0
