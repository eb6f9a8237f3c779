import pytest

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
