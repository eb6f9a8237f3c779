"""Files that are whole or not there."""

import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rbs_jax.errors import UserError


def make_folder(folder: Path) -> None:
    """A folder for results, with its parents.

    Raises:
      UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot make this folder: {error.strerror}") from error


@contextmanager
def taken_back(folder: Path) -> Iterator[None]:
    """Where the body fails, the folders that it made go again, as far as they hold nothing.

    Args:
      folder: one that the body may make, with its parents.
    """
    absent = [own for own in (folder, *folder.parents) if not own.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first that holds something stays, and so do all above it
            for own in absent:
                own.rmdir()
        raise


def system_error(error: Exception) -> OSError | None:
    """What the file system said, where a library wraps it in an error of its own."""
    if isinstance(error, OSError):
        return error if error.errno else None
    found = re.search(r"os(?:_error_code='| error )(\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Names `path` where the file system refuses a write, which by itself names no file.

    Raises:
      UserError: no space left, too large a file, no permission or the like.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    except UserError:  # said already, of another file
        raise
    except Exception as error:  # libraries wrap what the file system said, each in its own way
        said = system_error(error)
        if said is None:
            raise
        raise UserError(f"{path}: cannot be written: {said.strerror}") from error


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """One process of a machine at a time; a lock ends with its process, however that ends.

    Raises:
      UserError: another is there, with `refusal` for a message.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(refusal) from error
        yield
    finally:
        os.close(held)


def refuse_existing(out: Path) -> None:
    """A folder is never written over something else.

    Raises:
      UserError: `out` is there and is no empty folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: already exists; give another --out or remove it first")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which stands beside `out` and takes its name once all is written.

    Raises:
      UserError: `out` exists already, or the file system refuses a write.
    """
    refuse_existing(out)
    make_folder(out.parent)
    with writing(out):
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        try:
            yield beside
            beside.chmod(0o755)  # mkdtemp's folders are private
            os.replace(beside, out)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def write_atomic(path: Path, text: str) -> None:
    """Write beside, then rename: a reader sees the old file or the new one.

    Raises:
      UserError: it cannot be written; the old file stays.
    """
    beside = path.with_name(path.name + ".partial")
    with writing(path):
        try:
            beside.write_text(text, encoding="utf-8")
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def refuse_unwritable(path: Path) -> None:
    """Find out before long work that its result could not be written.

    Raises:
      UserError: it could not.
    """
    beside = path.with_name(path.name + ".partial")
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        beside.touch()
        beside.unlink()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """An indented JSON file, whole or not at all."""
    write_atomic(path, json_text(value))


def json_text(value: dict[str, Any]) -> str:
    """What an indented JSON file holds."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
