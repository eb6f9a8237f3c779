import dataclasses
import gzip
import json

import jax
import pytest

from rbs_jax.cli import main
from rbs_jax.errors import UserError
from rbs_jax.experiment import to_json
from rbs_jax.train import profile as profile_module
from rbs_jax.train.folder import RunFolder
from rbs_jax.train.loop import train
from rbs_jax.train.metrics import read_metrics
from rbs_jax.train.profile import Profile, parse_steps


def traced(out):
    """Numbers of the steps in the trace of a run's folder."""
    (file,) = (out / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return sorted({int(e["args"]["step_num"]) for e in events if "step_num" in e.get("args", {})})


def test_the_steps_that_are_asked_for_are_traced_and_no_others(experiment, tmp_path, capsys):
    out = tmp_path / "run"
    train(experiment, out, profile="3:4")
    assert traced(out) == [3, 4]
    assert f"profile: {out}/profile" in capsys.readouterr().out
    assert [r["step"] for r in read_metrics(out / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert train(experiment, out)["steps"] == 6, "a run goes on in a folder with a profile"


@pytest.mark.parametrize("steps", ["15:10", "0:3", "x", "3", "3:", "-1:3", "1:2:3", " 1:2"])
def test_what_names_no_steps_is_refused_in_one_line(steps, experiment, tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(
        "from rbs_jax.experiment import from_json\n"
        f"experiment = from_json({to_json(experiment)!r})\n"
    )
    out = tmp_path / "run"
    assert main(["train", str(config), "--out", str(out), f"--profile={steps}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rbs: --profile is {steps}; give the first and the last step")
    assert not out.exists()


def test_one_step_has_a_trace_too():
    assert parse_steps("7:7") == (7, 7)
    with pytest.raises(UserError):
        parse_steps("7:6")


@pytest.fixture
def profiler(monkeypatch):
    """What is called of jax's profiler, in order, with the steps' ends."""
    said = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda _: said.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: said.append("stop"))
    monkeypatch.setattr(
        profile_module.jax, "block_until_ready", lambda value: said.append(f"ready {value}")
    )
    return said


def step_saying(said):
    def step(state, batch):
        said.append(f"step {batch}")
        return batch, {}

    return step


@pytest.mark.parametrize(("start", "steps"), [(3, 9), (0, 4), (2, 9)])
def test_steps_that_this_run_does_not_do_are_a_warning_and_no_trace(
    start, steps, tmp_path, profiler, capsys
):
    own = step_saying(profiler)
    with Profile((2, 5), RunFolder(str(tmp_path / "run"))) as profile:
        assert profile.over(own, start, steps) is own
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"rbs: no --profile: this run does steps {start + 1} to {steps}, not all of 2 to 5"
    )


def test_the_device_is_done_before_the_trace_starts_and_before_it_ends(tmp_path, profiler):
    with Profile((6, 7), RunFolder(str(tmp_path / "run"))) as profile:
        step = profile.over(step_saying(profiler), 4, 7)
        for number in (5, 6, 7):
            step(number - 1, number)
    assert profiler == [
        *("step 5", "ready 5", "start", "step 6"),
        *("step 7", "ready (7, {})", "stop"),
    ]


def test_a_trace_that_is_cut_short_is_ended(tmp_path, profiler):
    folder = RunFolder(str(tmp_path / "run"))

    def run():
        with Profile((1, 3), folder) as profile:
            profile.over(step_saying(profiler), 0, 9)(0, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert profiler == ["ready 0", "start", "step 1", "stop"]


def test_process_0_alone_traces(tmp_path, profiler, monkeypatch):
    folder = RunFolder(str(tmp_path / "run"))
    monkeypatch.setattr(profile_module, "is_first", lambda: False)
    own = step_saying(profiler)
    assert Profile((1, 3), folder).over(own, 0, 9) is own
    monkeypatch.undo()
    assert Profile(None, folder).over(own, 0, 9) is own


def test_the_config_of_a_profiled_run_is_that_of_any(experiment, tmp_path):
    one = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=1))
    train(one, tmp_path / "run", profile="1:1")
    assert train(one, tmp_path / "run")["steps"] == 1
