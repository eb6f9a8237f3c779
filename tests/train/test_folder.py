import pytest

from rbs_jax.errors import UserError
from rbs_jax.train import folder as folders
from rbs_jax.train.folder import RunFolder


def test_process_0_works_in_the_folder_itself(tmp_path):
    run = RunFolder(f"{tmp_path}/a/run/")
    assert run.name == f"{tmp_path}/a/run"
    assert run.local == tmp_path / "a/run"
    assert run.local.is_dir()
    run.sync()


def test_the_others_work_on_copies_of_what_a_resumed_run_reads(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    monkeypatch.setattr(folders, "is_first", lambda: False)
    run = RunFolder(str(tmp_path))
    assert run.local != tmp_path
    assert (run.local / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert not (run.local / "untrained.json").exists()
    (run.local / "result.json").write_text("{}")
    run.sync()
    assert not (tmp_path / "result.json").exists()


def test_a_folder_that_not_every_process_sees_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "number", lambda: 3)
    monkeypatch.setattr(folders, "all_say", lambda sees: [sees, sees, False])
    with pytest.raises(UserError, match="process 2 does not see what process 0 writes there"):
        RunFolder(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
