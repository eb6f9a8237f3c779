"""Files by path or URL: local ones, and buckets (s3://, gs://) through fsspec."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from rbs_jax.files import make_folder, writing
from rbs_jax.remote import filesystem, is_remote, open_remote, retried


def open_file(path: str) -> BinaryIO:
    """A file to read and to seek in; a remote one is fetched block by block.

    Raises:
      OSError: it is not there.
      Unreachable: its bucket does not answer, at any read.
    """
    if not is_remote(path):
        return Path(path).open("rb")
    return open_remote(path, size_of(path))


def size_of(path: str) -> int:
    """Of a file [bytes].

    Raises:
      OSError: it is not there.
      Unreachable: its bucket does not answer.
    """
    if not is_remote(path):
        return Path(path).stat().st_size
    fs, name = filesystem(path)
    return int(retried(path, lambda: fs.size(name)))


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(path):
        return Path(path).exists()
    fs, name = filesystem(path)
    return bool(retried(path, lambda: fs.exists(name)))


def sizes_in(folder: str) -> dict[str, int]:
    """The files of a folder, by name [bytes], found by one listing.

    Raises:
      OSError: it is not there, or cannot be reached.
    """
    if not is_remote(folder):
        return {file.name: file.stat().st_size for file in Path(folder).iterdir() if file.is_file()}
    fs, name = filesystem(folder)
    found: list[dict[str, Any]] = retried(folder, lambda: fs.ls(name, detail=True))
    return {Path(file["name"]).name: int(file["size"]) for file in found if file["type"] == "file"}


def download(url: str, to: Path) -> None:
    """Copy a remote file, beside its place first, then renamed.

    Raises:
      OSError: it is not there, cannot be reached, or the disk refuses it.
    """
    fs, name = filesystem(url)
    beside = to.with_name(to.name + ".partial")
    try:
        retried(url, lambda: fs.get_file(name, str(beside)))
        beside.replace(to)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def fetched(path: str) -> Iterator[Path]:
    """A local file, or a copy of a remote one for as long as the `with` lasts.

    Raises:
      OSError: it is not there, cannot be reached, or the disk refuses it.
    """
    if not is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / path.rpartition("/")[2]
        download(path, local)
        yield local


def upload(file: Path, url: str) -> None:
    """Copy a local file to a URL; buckets show an object once it is whole.

    Raises:
      OSError: it cannot be reached or written.
    """
    fs, name = filesystem(url)
    retried(url, lambda: fs.put_file(str(file), name))


def read_text(path: str) -> str | None:
    """What a small text file holds; None where there is none.

    Raises:
      OSError: it cannot be reached.
    """
    try:
        with open_file(path) as file:
            return file.read().decode("utf-8")
    except FileNotFoundError:
        return None


def put(file: Path, to: str) -> None:
    """Move a local file to its place; whoever looks there sees the whole file or none.

    Raises:
      OSError: it cannot be written there.
    """
    if is_remote(to):
        upload(file, to)
        file.unlink()
    else:
        Path(to).parent.mkdir(parents=True, exist_ok=True)
        beside = Path(f"{to}.partial")
        shutil.move(file, beside)  # which may be from another disk
        beside.replace(to)


def put_text(text: str, to: str) -> None:
    """Write a small text file, whole or not at all.

    Raises:
      OSError: it cannot be written there.
    """
    local = None if is_remote(to) else Path(to).parent
    if local is not None:
        local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local, suffix=".partial") as folder:
        file = Path(folder) / "text"
        file.write_text(text, encoding="utf-8")
        put(file, to)


@contextmanager
def whole_file(to: str) -> Iterator[Path]:
    """A local file to write, which takes its place at a path or URL once all is written.

    Raises:
      UserError: it cannot be written there; as far as that can be known, before the work.
    """
    beside = f"{to}.partial"
    if is_remote(to):
        with writing(to), tempfile.TemporaryDirectory() as folder:
            put_text("", beside)
            remove(beside)
            local = Path(folder) / "file"
            yield local
            upload(local, to)
        return
    local = Path(beside)
    make_folder(local.parent)
    with writing(to):
        try:
            local.touch()
            yield local
            local.replace(to)
        finally:
            local.unlink(missing_ok=True)


def remove(folder: str) -> None:
    """Delete a folder with all it holds, if it is there.

    Raises:
      OSError: it cannot be deleted.
    """
    fs, name = filesystem(folder)
    try:
        retried(folder, lambda: fs.rm(name, recursive=True))
    except FileNotFoundError:  # also where a first try did it, and only its answer was lost
        return


def move_folder(folder: str, to: str) -> None:
    """Give a folder another name, on the same disk or in the same bucket.

    Raises:
      OSError: it is not there, or cannot be moved.
    """
    if is_remote(folder):
        (fs, name), target = filesystem(folder), filesystem(to)[1]
        for file in retried(folder, lambda: fs.find(name)):
            retried(folder, partial(fs.mv, file, target + file.removeprefix(name)))
    else:
        Path(to).parent.mkdir(parents=True, exist_ok=True)
        Path(folder).rename(to)


def names_in(folder: str) -> list[str]:
    """What a folder holds, by name, sorted; nothing where it is not there.

    Raises:
      OSError: it cannot be reached.
    """
    fs, name = filesystem(folder)
    try:
        found = retried(folder, lambda: fs.ls(name, detail=False))
    except FileNotFoundError:
        return []
    return sorted(path.rstrip("/").rpartition("/")[2] for path in found)
