"""A run whose folder is in a bucket, gs:// as on a pod: the same run as on disk."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import gcsfs.retry
import jax
import numpy as np
import pytest

from rbs_jax.cli import main
from rbs_jax.errors import UserError
from rbs_jax.experiment import to_json
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train import folder as folders
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.folder import RunFolder
from rbs_jax.train.loop import train
from rbs_jax.train.models import find_model, load_model, with_sizes
from tests.gcs import Bucket
from tests.train.test_loop import run_cli, timeless, with_steps


def records(bucket, folder, path):
    """What metrics.jsonl in a bucket says, but for speeds."""
    path.mkdir(exist_ok=True)
    (path / "metrics.jsonl").write_bytes(bucket.get(f"{folder}/metrics.jsonl"))
    return timeless(path)


@pytest.fixture(scope="module")
def on_disk(experiment, tmp_path_factory):
    """Trained once for many tests, none of which may change it."""
    out = tmp_path_factory.mktemp("run") / "on-disk"
    return out, train(experiment, out)


@pytest.fixture(scope="module")
def kept(google, experiment):
    """The same run in a bucket, in two parts; no test may change it."""
    bucket = Bucket(google, "kept-run")
    train(with_steps(experiment, 3), f"{bucket.url}/run")
    return bucket, train(experiment, f"{bucket.url}/run")


def test_a_run_in_a_bucket_is_the_run_on_disk(kept, on_disk, tmp_path):
    (bucket, result), (out, expected) = kept, on_disk
    assert records(bucket, "run", tmp_path / "copy") == timeless(out)
    for name in ("test", "untrained", "controls"):
        assert result[name] == expected[name]
    assert result["checkpoint"] == f"{bucket.url}/run@6"
    assert json.loads(bucket.get("run/result.json")) == result
    small = {key for key in bucket.names() if "/checkpoints/" not in key}
    there = {f"run/{path.name}" for path in out.iterdir() if path.is_file()}
    assert {name for name in small if "/tensorboard/" not in name} == there
    saved = {key.split("/")[2] for key in bucket.names() if "/checkpoints/" in key}
    assert saved == {path.name for path in (out / "checkpoints").iterdir()}


def test_its_model_is_the_same_and_may_be_gone_on_from(kept, on_disk, experiment):
    bucket, out = kept[0], on_disk[0]
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        found = find_model(f"{bucket.url}/run/")
        assert found[:2] == (f"{bucket.url}/run", 6)
        got, expected = (load_model(x, mesh).model for x in (found, find_model(str(out))))
        jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert find_model(f"{bucket.url}/run@4").step == 4
    with pytest.raises(UserError, match=r"run@5: no such checkpoint; here are 4, 6, init"):
        find_model(f"{bucket.url}/run@5")
    init = dataclasses.replace(experiment.model, init=f"{bucket.url}/run")
    begun = with_sizes(dataclasses.replace(experiment, model=init))
    assert begun.model.init == f"{bucket.url}/run@6"


def test_a_run_starts_from_one_in_a_bucket(kept, experiment, tmp_path, capsys):
    init = f"{kept[0].url}/run@4"
    model = dataclasses.replace(experiment.model, init=init)
    train(with_steps(dataclasses.replace(experiment, model=model), 1), tmp_path / "run")
    assert find_model(str(tmp_path / "run")).experiment.model.init == init


def test_no_model_and_a_hugging_face_folder_in_a_bucket_are_named(gs):
    with pytest.raises(UserError, match=f"{gs.url}/run: no model here"):
        find_model(f"{gs.url}/run")
    gs.put("hf/config.json", b"{}")
    with pytest.raises(UserError, match="hf: a Hugging Face folder in a bucket; copy it"):
        find_model(f"{gs.url}/hf")


def test_a_damaged_newest_checkpoint_is_set_aside(gs, experiment, on_disk, tmp_path, capsys):
    train(with_steps(experiment, 4), f"{gs.url}/run")
    damaged = [key for key in gs.names() if key.startswith("run/checkpoints/4/params/d/")]
    for key in damaged:
        gs.put(key, b"damaged")
    assert damaged
    train(experiment, f"{gs.url}/run")
    said = capsys.readouterr()
    assert f"{gs.url}/run/checkpoints/4: this checkpoint cannot be read" in said.err
    assert f"set aside in {gs.url}/run/broken_checkpoints, and the one before it" in said.err
    assert "resuming at step 2\n" in said.out
    assert all(key.replace("checkpoints", "broken_checkpoints") in gs.names() for key in damaged)
    assert records(gs, "run", tmp_path / "copy") == timeless(on_disk[0])


def test_a_checkpoint_under_way_is_invisible_and_saved_anew(kept, gs, experiment, capsys):
    for name in kept[0].names():
        if name != "run/checkpoints/6/commit_success.txt":
            gs.put(name, kept[0].get(name))
    assert find_model(f"{gs.url}/run").step == 4
    assert train(experiment, f"{gs.url}/run")["test"] == kept[1]["test"]
    assert "resuming at step 4\n" in capsys.readouterr().out
    assert find_model(f"{gs.url}/run").step == 6


@pytest.mark.slow
def test_a_killed_run_goes_on(gs, experiment, tmp_path):
    longer = with_steps(experiment, 40)
    longer = dataclasses.replace(
        longer, train=dataclasses.replace(longer.train, checkpoint_every=10)
    )
    process = run_cli(longer, tmp_path, f"{gs.url}/run")
    give_up = time.monotonic() + 120
    while "run/checkpoints/10/commit_success.txt" not in gs.names() and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(records(gs, "run", tmp_path / "killed")) < 40
    train(longer, f"{gs.url}/run")
    train(longer, tmp_path / "unbroken")
    assert records(gs, "run", tmp_path / "copy") == timeless(tmp_path / "unbroken")


def test_what_a_kill_before_the_first_checkpoint_leaves_is_taken_up(gs):
    """A bucket has no empty folder that would show a run, as a disk has."""
    folder = RunFolder(f"{gs.url}/run")
    (folder.local / "tokenizer.json").write_text("{}")
    (folder.local / "heartbeat.json").write_text("{}")
    (folder.local / "metrics.jsonl").write_text("one\n")
    folder.sync()
    again = RunFolder(f"{gs.url}/run")
    assert (again.local / "metrics.jsonl").read_text() == "one\n"


@pytest.mark.parametrize("name", ["holiday.jpg", "metrics.jsonl", "checkpoints/epoch_3/x"])
def test_a_folder_of_other_things_is_left_alone(gs, name):
    gs.put(f"run/{name}", b"mine")
    with pytest.raises(UserError, match=f"{gs.url}/run: holds .* and no run"):
        RunFolder(f"{gs.url}/run")
    assert gs.names() == [f"run/{name}"]


def wait_until(is_so):
    give_up = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_run_can_be_watched_while_it_goes_on(gs, monkeypatch, capsys):
    monkeypatch.setattr(folders, "COPY_EVERY", 0.05)
    folder = RunFolder(f"{gs.url}/run")
    metrics = folder.local / "metrics.jsonl"
    with folder.copied_now_and_then():
        gs.server.fail(f"/upload/storage/v1/b/{gs.name}/o", "403", times=2)  # it does not end of it
        for text in ("one\n", "one\ntwo\n"):
            metrics.write_text(text)
            wait_until(lambda: "run/metrics.jsonl" in gs.names())
            wait_until(lambda text=text: gs.get("run/metrics.jsonl") == text.encode())
        assert gs.server.failed() == 2
        monkeypatch.setattr(folders, "COPY_EVERY", 60)
        time.sleep(0.2)
        metrics.write_text("one\ntwo\nthree\n")
    assert gs.get("run/metrics.jsonl") == b"one\ntwo\nthree\n"
    (line,) = capsys.readouterr().err.splitlines()  # of two failures
    assert line.startswith("rbs: not copied before the next checkpoint: ")


def test_a_checkpoint_s_metrics_are_there_before_it(gs, experiment, monkeypatch):
    own, seen = Checkpoints.save, []

    def save(self, step, *given):
        seen.append((step, len(gs.get("run/metrics.jsonl").splitlines())))
        return own(self, step, *given)

    monkeypatch.setattr(Checkpoints, "save", save)
    train(with_steps(experiment, 4), f"{gs.url}/run")
    assert seen == [(2, 2), (4, 4)]


def test_a_bucket_that_cannot_be_reached_is_told_in_one_line(
    gs, experiment, tmp_path, monkeypatch, capsys
):
    async def sleep(seconds):
        pass

    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=sleep))
    gs.fail(".*", "503", times=1000)
    config = tmp_path / "config.py"
    config.write_text(
        "from rbs_jax.experiment import from_json\n"
        f"experiment = from_json({to_json(experiment)!r})\n"
    )
    assert main(["train", str(config), "--out", f"{gs.url}/run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{gs.url}/run" in line
    assert "cannot be reached" in line


def test_orbax_s_own_client_gives_up_in_time_too(gs):
    """In a process of its own, since etils keeps its client for good."""
    code = (
        "from rbs_jax.train.checkpoint import Checkpoints\n"
        "from etils import epath\n"
        f"checkpoints = Checkpoints('{gs.url}/run', 1)\n"
        f"client = epath.Path('{gs.url}')._backend.fs('{gs.url}')\n"
        "print(client.requests_timeout.sock_read, client.dircache.use_listings_cache)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["15", "False"]
