import dataclasses
import errno
import os
import struct
import sys
import types

import pytest
from tensorboardX import event_file_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from rbs_jax.errors import UserError
from rbs_jax.experiment import to_json
from rbs_jax.train import curves as curves_module
from rbs_jax.train.curves import TensorBoard, WeightsAndBiases, open_curves
from rbs_jax.train.folder import RunFolder
from rbs_jax.train.loop import train
from rbs_jax.train.metrics import TIME_FIELDS, read_metrics


def events(file):
    """Of one file, up to where a kill has cut it."""
    data, at = file.read_bytes(), 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if at + 12 + length + 4 > len(data):
            return
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4


def shown(folder):
    """Curves as TensorBoard shows them: {name: {step: value}}; no step may come twice.

    A file that begins with a mark hides what earlier ones have at its step and after.
    """
    found = {}
    for file in sorted(folder.iterdir()):
        for event in events(file):
            if event.session_log.status == SessionLog.START:
                for curve in found.values():
                    for step in [step for step in curve if step >= event.step]:
                        del curve[step]
            for value in event.summary.value:
                curve = found.setdefault(value.tag, {})
                assert event.step not in curve, f"{value.tag}: two values at step {event.step}"
                curve[event.step] = value.simple_value
    return found


def write(folder, start, steps, value=1.0):
    board = TensorBoard(folder, start)
    for step in steps:
        board.write({"step": step, "loss": value})
    return board


def test_every_number_is_drawn_at_its_step_under_the_name_of_its_group(tmp_path):
    board = TensorBoard(tmp_path, 0)
    record = {"step": 3, "loss": 0.5, "top1": 1, "heldout_same_document": 0.25}
    board.write(record | {"mfu": None, "seconds": 2.0})
    assert shown(tmp_path) == {
        "train/loss": {3: 0.5},
        "train/top1": {3: 1.0},
        "heldout/same_document": {3: 0.25},
        "speed/seconds": {3: 2.0},
    }, "on disk with each record, as metrics.jsonl is"
    board.close(failed=False)


def test_what_is_done_again_after_a_kill_is_drawn_once(tmp_path, monkeypatch):
    seconds = iter(range(1_800_000_000, 1_800_000_009))
    clock = types.SimpleNamespace(time=lambda: next(seconds))
    monkeypatch.setattr(event_file_writer, "time", clock)
    killed = write(tmp_path, 0, range(1, 8))
    (file,) = tmp_path.iterdir()
    os.truncate(file, file.stat().st_size - 5)
    resumed = write(tmp_path, 3, [4, 8], value=2.0)  # fewer lines than before
    assert shown(tmp_path)["train/loss"] == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 8: 2.0}
    killed.close(failed=True)
    resumed.close(failed=False)


def test_a_start_within_the_same_second_leaves_the_earlier_file(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(time=lambda: 1_800_000_000.0)
    monkeypatch.setattr(event_file_writer, "time", clock)
    write(tmp_path, 0, [1, 2]).close(failed=False)
    write(tmp_path, 2, [3]).close(failed=False)
    assert set(shown(tmp_path)["train/loss"]) == {1, 2, 3}


def test_a_start_without_a_record_makes_no_file(tmp_path):
    TensorBoard(tmp_path / "tensorboard", 6).close(failed=False)
    assert not (tmp_path / "tensorboard").exists()


def test_a_full_disk_is_named_once(tmp_path, monkeypatch):
    board = write(tmp_path, 0, [1])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(event_file_writer.EventsWriter, "flush", full)
    with pytest.raises(UserError, match=r"cannot be written: No space left"):
        board.write({"step": 2, "loss": 1.0})
    board.close(failed=True)
    with pytest.raises(UserError, match=r"cannot be written: No space left"):
        board.close(failed=False)


def test_a_runs_curves_are_its_metrics_also_when_it_goes_on(experiment, tmp_path):
    out = tmp_path / "run"
    train(
        dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=3)), out
    )
    train(experiment, out)
    records = read_metrics(out / "metrics.jsonl")
    curves = shown(out / "tensorboard")
    assert curves["train/loss"] == pytest.approx({r["step"]: r["loss"] for r in records})
    assert set(curves["speed/seconds"]) == set(range(1, 7))
    drawn = {name.partition("/")[2] for name in curves if not name.startswith("heldout/")}
    numbers = {n for r in records for n, v in r.items() if v is not None and n != "step"}
    assert drawn == {name for name in numbers if not name.startswith("heldout_")}
    assert {f"speed/{name}" for name in TIME_FIELDS if name in numbers} <= set(curves)


def test_process_0_alone_draws(experiment, tmp_path, monkeypatch):
    folder = RunFolder(str(tmp_path / "run"))
    assert len(open_curves(experiment, folder, 0)) == 1
    monkeypatch.setattr(curves_module, "is_first", lambda: False)
    assert open_curves(experiment, folder, 0) == []


class StandIn(types.ModuleType):
    """What this code calls of wandb; a run knows the steps it has, as the real service does."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.given, self.finished = {}, [], []

    def _finish(self, exit_code):
        self.finished.append(exit_code)

    def init(self, **given):
        self.given.append(given)
        logged = self.runs.setdefault(given["id"], {})

        def log(values, step, commit):
            assert commit
            assert step > max(logged, default=-1), "the real one drops it, with a warning"
            logged[step] = values

        return types.SimpleNamespace(
            starting_step=max(logged, default=-1) + 1,
            log=log,
            finish=self._finish,
        )


@pytest.fixture
def wandb(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def with_wandb(experiment, **train_config):
    settings = dataclasses.replace(experiment.train, wandb="rewards", **train_config)
    return dataclasses.replace(experiment, train=settings)


def test_wandb_goes_on_with_one_run_by_the_id_in_the_folder(experiment, tmp_path, wandb):
    out = tmp_path / "run"
    train(
        dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=2)), out
    )
    assert not wandb.given, "looked for only where it is asked for"
    train(with_wandb(experiment, steps=4), out)  # which a run that goes on may be given
    train(with_wandb(experiment), out)
    assert [given["id"] for given in wandb.given] == 2 * [(out / "wandb_id.txt").read_text()]
    first, second = wandb.given
    assert first["config"]["train"] == to_json(with_wandb(experiment, steps=4))["train"]
    assert (first["project"], first["name"], first["resume"]) == ("rewards", "run", "allow")
    assert second["allow_val_change"]
    (logged,) = wandb.runs.values()
    records = {r["step"]: r["loss"] for r in read_metrics(out / "metrics.jsonl") if r["step"] > 2}
    assert {step: values["train/loss"] for step, values in logged.items()} == records
    assert wandb.finished == [0, 0]


def test_wandb_gets_what_is_done_again_after_a_kill_once(experiment, tmp_path, wandb):
    folder = RunFolder(str(tmp_path / "run"))
    killed = WeightsAndBiases(experiment, "rewards", folder)
    killed.write({"step": 1, "loss": 1.0})
    killed.write({"step": 2, "loss": 2.0})
    resumed = WeightsAndBiases(experiment, "rewards", folder)
    for step in (2, 3):
        resumed.write({"step": step, "loss": float(step)})
    resumed.close(failed=True)
    (logged,) = wandb.runs.values()
    assert logged == {step: {"train/loss": float(step)} for step in (1, 2, 3)}
    assert wandb.finished == [1]


def test_wandb_that_is_absent_is_missed_before_anything_is_done(experiment, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"train\.wandb rewards: .*; give `pip install wandb`"):
        train(with_wandb(experiment), tmp_path / "run")
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))  # a folder of that name
    with pytest.raises(UserError, match="pip install wandb"):
        train(with_wandb(experiment), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wandb_that_refuses_says_why(experiment, tmp_path, wandb):
    def refuse(**_):
        raise wandb.Error("No API key\nconfigured")

    wandb.init = refuse
    with pytest.raises(UserError, match=r"train\.wandb rewards: No API key configured"):
        train(with_wandb(experiment, steps=1), tmp_path / "run")
