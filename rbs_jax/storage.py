"""Files by path or URL: local ones, and buckets (s3://, gs://) through fsspec."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from rbs_jax.errors import UserError

Result = TypeVar("Result")
TRIES = 4
"""How often what a network refuses is tried."""
PAUSE = 0.5
"""Before the second try, doubled before each other [seconds]."""
BLOCK = 8 * 2**20
"""Of a remote file that is fetched at once [bytes]."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL, and so no local file."""
    return "://" in path


def filesystem(path: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path's name in it.

    Raises:
      UserError: its protocol is unknown, or needs a package that is not installed.
    """
    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UserError(f"{path}: {error}; buckets need `pip install 'rbs_jax[cloud]'`") from error


def open_file(path: str) -> BinaryIO:
    """A file to read and to seek in; a remote one is fetched block by block.

    Raises:
      OSError: it is not there, or cannot be reached.
    """
    if not is_remote(path):
        return Path(path).open("rb")
    fs, name = filesystem(path)
    options = {"block_size": BLOCK, "cache_type": "readahead"}
    return cast(BinaryIO, retried(lambda: fs.open(name, "rb", **options)))


def size_of(path: str) -> int:
    """Of a file [bytes].

    Raises:
      OSError: it is not there, or cannot be reached.
    """
    if not is_remote(path):
        return Path(path).stat().st_size
    fs, name = filesystem(path)
    return int(retried(lambda: fs.size(name)))


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(path):
        return Path(path).exists()
    fs, name = filesystem(path)
    fs.invalidate_cache()  # others may have written since
    return bool(retried(lambda: fs.exists(name)))


def sizes_in(folder: str) -> dict[str, int]:
    """The files of a folder, by name [bytes], found by one listing.

    Raises:
      OSError: it is not there, or cannot be reached.
    """
    if not is_remote(folder):
        return {file.name: file.stat().st_size for file in Path(folder).iterdir() if file.is_file()}
    fs, name = filesystem(folder)
    fs.invalidate_cache()  # others may have written since
    found = retried(lambda: fs.ls(name, detail=True))
    return {Path(file["name"]).name: int(file["size"]) for file in found if file["type"] == "file"}


def download(url: str, to: Path) -> None:
    """Copy a remote file, beside its place first, then renamed.

    Raises:
      OSError: it is not there, cannot be reached, or the disk refuses it.
    """
    fs, name = filesystem(url)
    beside = to.with_name(to.name + ".partial")
    try:
        retried(lambda: fs.get_file(name, str(beside)))
        beside.replace(to)
    finally:
        beside.unlink(missing_ok=True)


def upload(file: Path, url: str) -> None:
    """Copy a local file to a URL; buckets show an object once it is whole.

    Raises:
      OSError: it cannot be reached or written.
    """
    fs, name = filesystem(url)
    retried(lambda: fs.put_file(str(file), name))


def retried(call: Callable[[], Result]) -> Result:
    """What a call returns, tried again where a network may have failed.

    Raises:
      OSError: what it raised at last, or at once where trying again would not help.
    """
    for attempt in range(TRIES):
        try:
            return call()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise
        except OSError as error:
            if attempt == TRIES - 1 or error.errno == errno.ENOSPC:
                raise
        except Exception as error:  # clients raise errors of their own, of no common kind
            if attempt == TRIES - 1:
                raise OSError(f"{type(error).__name__}: {error}") from error
        time.sleep(PAUSE * 2**attempt)
    raise AssertionError
