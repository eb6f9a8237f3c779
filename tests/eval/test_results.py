import errno
from pathlib import Path

import pytest

from rbs_jax.errors import UserError
from rbs_jax.eval import results
from rbs_jax.eval.results import write_result


def files(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def out(tmp_path):
    """A result that is there."""
    out = tmp_path / "new" / "out"
    write_result(str(out), {"of": "one"}, [{"id": 1}], {"eval-set/a.json": "[]", "best.jsonl": ""})
    return out


def test_all_files_are_written(out):
    assert files(out) == {
        "result.json": '{\n  "of": "one"\n}\n',
        "scores.jsonl": '{"id": 1}\n',
        "a.json": "[]",
        "best.jsonl": "",
    }
    write_result(str(out), {"of": "other"}, [{"id": 2}])
    assert files(out) == {
        "result.json": '{\n  "of": "other"\n}\n',
        "scores.jsonl": '{"id": 2}\n',
        "best.jsonl": "",
    }


def test_a_result_stays_where_the_new_one_cannot_be_written(out, monkeypatch):
    before, write = files(out), Path.write_text

    def last_refused(path, *args, **kwargs):
        (full if path.name == "result.json" else write)(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", last_refused)
    with pytest.raises(UserError, match=r"out/result.json: cannot be written: No space left"):
        write_result(str(out), {"of": "other"}, [{"id": 2}])
    assert files(out) == before
    with pytest.raises(UserError, match="No space left"):
        write_result(str(out.parent / "another"), {"of": "other"})
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_no_result_tells_of_files_of_another(out, monkeypatch):
    put = results.put

    def last_refused(file, to):
        (full if to.endswith("result.json") else put)(file, to)

    monkeypatch.setattr(results, "put", last_refused)
    with pytest.raises(UserError, match="No space left"):
        write_result(str(out), {"of": "other"}, [{"id": 2}])
    assert files(out) == {"scores.jsonl": '{"id": 2}\n', "best.jsonl": ""}
