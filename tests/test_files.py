import errno

import pytest

from rbs_jax.errors import UserError
from rbs_jax.files import system_error, taken_back, writing


def written(tmp_path, error):
    """What comes out where an error is raised while `out` is written."""
    with pytest.raises(type(error) if error.args[0] == "a defect" else UserError) as raised:
        _write(tmp_path / "out", error)
    return str(raised.value)


def _write(path, error):
    with writing(path):
        raise error


def test_what_a_library_wraps_is_said_of_the_file_that_is_written(tmp_path):
    said = written(tmp_path, ValueError("I/O error: something (os error 28)"))
    assert said == f"{tmp_path / 'out'}: cannot be written: No space left on device"
    assert system_error(ValueError("os_error_code='28'")).errno == errno.ENOSPC


def test_another_error_is_left_as_it_is(tmp_path):
    assert written(tmp_path, ValueError("a defect")) == "a defect"
    mistake = UserError("in.jsonl: cannot be read (os error 5)")
    assert written(tmp_path, mistake) == str(mistake)


def test_folders_made_in_vain_are_taken_back(tmp_path):
    def fail(folder, file=None):
        with taken_back(folder):
            folder.mkdir(parents=True)
            if file is not None:
                file.touch()
            raise KeyboardInterrupt

    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "there" / "a" / "b")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "a" / "b", tmp_path / "a" / "file")
    assert sorted(path.name for path in (tmp_path / "a").rglob("*")) == ["file"]
    with taken_back(tmp_path / "c"):
        (tmp_path / "c").mkdir()
    assert (tmp_path / "c").exists()
