from types import SimpleNamespace

import pytest

from rbs_jax import remote
from rbs_jax.errors import UserError
from rbs_jax.train import folder as folder_module
from rbs_jax.train.folder import BEGUN, RunFolder, refuse_foreign


def test_process_0_works_in_the_folder_itself(tmp_path):
    run = RunFolder(f"{tmp_path}/a/run/")
    assert run.name == f"{tmp_path}/a/run"
    assert run.local == tmp_path / "a/run"
    assert run.local.is_dir()
    run.sync()


def test_the_others_work_on_copies_of_what_a_resumed_run_reads(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    monkeypatch.setattr(folder_module, "is_first", lambda: False)
    run = RunFolder(str(tmp_path))
    assert run.local != tmp_path
    assert (run.local / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert not (run.local / "untrained.json").exists()
    (run.local / "result.json").write_text("{}")
    run.sync()
    assert not (tmp_path / "result.json").exists()


def test_a_folder_that_not_every_process_sees_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "number", lambda: 3)
    monkeypatch.setattr(folder_module, "all_say", lambda sees: [sees, sees, False])
    with pytest.raises(UserError, match="process 2 does not see what process 0 writes there"):
        RunFolder(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def now(monkeypatch):
    """Seconds on a clock that the test moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(
        folder_module, "time", SimpleNamespace(monotonic=lambda: clock.now), raising=False
    )
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    return clock


def write(folder, text):
    (folder.local / "metrics.jsonl").write_text(text)


def test_small_files_reach_a_bucket_every_half_minute(bucket, now):
    folder = RunFolder(f"{bucket.url}/run")
    write(folder, "one")
    folder.sync_at_times()
    assert bucket.get("run/metrics.jsonl") == b"one"
    write(folder, "and two")
    now.now += 29
    folder.sync_at_times()
    assert bucket.get("run/metrics.jsonl") == b"one"
    now.now += 1
    folder.sync_at_times()
    assert bucket.get("run/metrics.jsonl") == b"and two"
    write(folder, "and two and three")
    now.now += 20
    folder.sync()
    assert bucket.get("run/metrics.jsonl") == b"and two and three"
    write(folder, "and two and three and four")
    now.now += 20
    folder.sync_at_times()
    assert bucket.get("run/metrics.jsonl") == b"and two and three", "30 s after a checkpoint's"


def test_a_bucket_that_fails_is_a_warning_between_checkpoints_and_an_error_at_one(
    bucket, now, capsys
):
    folder = RunFolder(f"{bucket.url}/run")
    write(folder, "one")
    bucket.server.fail(f"/{bucket.name}/run/.*", "503", 100)
    folder.sync_at_times()
    now.now += 3600
    folder.sync_at_times()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rbs: not copied before the next checkpoint: ")
    assert f"{bucket.url}/run/metrics.jsonl: cannot be reached" in line
    with pytest.raises(UserError, match="cannot be reached"):
        folder.sync()
    bucket.server.mend()
    folder.sync()
    write(folder, "and two")
    now.now += 30
    folder.sync_at_times()
    assert bucket.get("run/metrics.jsonl") == b"and two", "reached again, it is used again"


def test_what_a_kill_before_the_first_checkpoint_leaves_in_a_bucket_is_a_run(tmp_path):
    """A bucket shows no folder of checkpoints then."""
    for name in BEGUN - {"checkpoints"}:
        (tmp_path / name).touch()
    refuse_foreign(str(tmp_path))
    (tmp_path / "heartbeat.json").unlink()
    with pytest.raises(UserError, match="and no run; give another --out"):
        refuse_foreign(str(tmp_path))


def test_what_a_run_may_hold_is_known():
    assert {"heartbeat.json", "tensorboard", "profile", "wandb_id.txt"} <= BEGUN
