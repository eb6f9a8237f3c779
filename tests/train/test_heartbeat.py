import dataclasses
import datetime
import json
import os
import socket

import pytest

from rbs_jax.errors import Preempted, UserError
from rbs_jax.remote import Unreachable
from rbs_jax.train import heartbeat as heartbeat_module
from rbs_jax.train.folder import RunFolder
from rbs_jax.train.heartbeat import Heartbeat
from rbs_jax.train.loop import train


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(heartbeat_module, "time", clock)
    return clock


@pytest.fixture
def folder(tmp_path):
    return RunFolder(str(tmp_path / "run"))


def told(folder):
    return json.loads((folder.local / "heartbeat.json").read_text())


def test_it_tells_who_runs_and_how_far_it_is(folder, clock):
    heartbeat = Heartbeat(folder, 9)
    heartbeat.begin(4)
    first = told(folder)
    assert (first["state"], first["step"], first["seconds"]) == ("starting", 4, None)
    heartbeat.enter("training")
    clock.now += 2.5
    heartbeat.step(5)
    beat = told(folder)
    said = datetime.datetime.fromisoformat(beat.pop("time"))
    assert said.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - said) < datetime.timedelta(minutes=1)
    assert beat == {
        "state": "training",
        "step": 5,
        "steps": 9,
        "seconds": 2.5,
        "processes": 1,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def test_steps_are_told_at_most_once_a_second_and_other_states_at_once(folder, clock):
    heartbeat = Heartbeat(folder, 9)
    heartbeat.begin(0)
    heartbeat.enter("training")
    seen = []
    for step in (1, 2, 3, 4):
        clock.now += 0.4
        heartbeat.step(step)
        seen.append(told(folder)["step"])
    assert seen == [0, 0, 3, 3]
    with heartbeat.during("saving"):
        assert (told(folder)["state"], told(folder)["step"]) == ("saving", 4)
    assert (told(folder)["state"], told(folder)["step"]) == ("training", 4)


def test_a_steps_seconds_hold_no_saving_and_no_measuring(folder, clock):
    heartbeat = Heartbeat(folder, 9)
    heartbeat.begin(0)
    heartbeat.enter("training")
    clock.now += 3
    heartbeat.step(1)
    with heartbeat.during("measuring"):
        clock.now += 50
    clock.now += 1
    heartbeat.step(1)  # its record is written after the measuring
    assert told(folder)["seconds"] == 3
    with heartbeat.during("saving"):
        clock.now += 20
    clock.now += 4
    heartbeat.step(2)
    assert told(folder)["seconds"] == 4


def ended_by(folder, error):
    def run():
        with Heartbeat(folder, 9) as heartbeat:
            heartbeat.begin(0)
            raise error

    with pytest.raises(type(error), match=str(error)):
        run()
    return told(folder)["state"]


def test_how_a_run_ended(folder):
    assert ended_by(folder, Preempted("asked to leave")) == "preempted"
    assert ended_by(folder, UserError("too many")) == "failed"
    assert ended_by(folder, KeyboardInterrupt("Ctrl-C")) == "failed"


def test_the_last_words_of_a_failed_run_reach_its_bucket_and_never_hide_its_error(
    folder, monkeypatch
):
    synced = []
    monkeypatch.setattr(RunFolder, "sync", lambda _: synced.append(told(folder)["state"]))
    ended_by(folder, UserError("too many"))
    assert synced[-1] == "failed"
    synced.clear()
    ended_by(folder, Unreachable("the bucket itself"))
    assert "failed" not in synced, "it would be waited for again"

    def refuse(self):
        if told(folder)["state"] == "failed":
            raise Unreachable("gone")

    monkeypatch.setattr(RunFolder, "sync", refuse)
    assert ended_by(folder, UserError("too many")) == "failed"


def test_process_0_alone_beats(folder, monkeypatch):
    monkeypatch.setattr(heartbeat_module, "is_first", lambda: False)
    Heartbeat(folder, 9).begin(0)
    assert not (folder.local / "heartbeat.json").exists()


def test_the_states_of_a_run(experiment, corpora, tmp_path, monkeypatch):
    states = []

    def write(path, beat):
        assert path == tmp_path / "run" / "heartbeat.json"
        states.append((beat["state"], beat["step"]))

    monkeypatch.setattr(heartbeat_module, "write_json", write)
    short = dataclasses.replace(experiment.train, steps=3, checkpoint_every=2, log_every=3)
    train(dataclasses.replace(experiment, train=short), tmp_path / "run")
    assert states[:2] == [("starting", 0), ("training", 0)]
    turns = [state for state, _ in states if state != "training"]
    assert turns == ["starting", "saving", "measuring", "saving", "measuring", "done"]
    assert [step for state, step in states if state == "saving"] == [2, 3]
    assert states[-2:] == [("measuring", 3), ("done", 3)]


def test_a_run_that_is_refused_leaves_the_heartbeat_of_the_one_before(experiment, tmp_path):
    one = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=1))
    train(one, tmp_path / "run")
    before = (tmp_path / "run" / "heartbeat.json").read_text()
    assert json.loads(before)["state"] == "done"
    with pytest.raises(UserError, match="other settings"):
        train(dataclasses.replace(one, seed=5), tmp_path / "run")
    assert (tmp_path / "run" / "heartbeat.json").read_text() == before


def test_each_step_is_told_by_its_number(experiment, tmp_path, monkeypatch):
    """Also those that metrics.jsonl has no line of."""
    steps = []
    own = Heartbeat.step
    monkeypatch.setattr(
        Heartbeat, "step", lambda self, done: (steps.append(done), own(self, done))[1]
    )
    quiet = dataclasses.replace(experiment.train, steps=5, log_every=5, checkpoint_every=5)
    train(dataclasses.replace(experiment, train=quiet), tmp_path / "run")
    assert list(dict.fromkeys(steps)) == [1, 2, 3, 4, 5]
