"""Files by path or URL: local ones, and buckets (s3://, gs://) through fsspec."""

import errno
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar, cast

import fsspec

from rbs_jax.errors import UserError

Result = TypeVar("Result")


class Unreachable(UserError):
    """A bucket that does not answer, however often it is asked: nothing is left out for it."""


TRIES = 5
"""How often what a network refuses is tried."""
PAUSE = 1.0
"""Before the second try, doubled before each other [seconds]."""
TRIES_ITSELF = ("gs://", "gcs://")
"""URLs whose client cannot be told to try only once: six times within half a minute."""
SILENCE = 15
"""After which a bucket's answer is given up [seconds]."""
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
    protocol = path.partition("://")[0]
    try:
        fs, name = fsspec.core.url_to_fs(path, **_settings(protocol))
    except (ImportError, ValueError) as error:
        raise UserError(f"{path}: {error}; buckets need `pip install 'rbs_jax[cloud]'`") from error
    if protocol in {"s3", "s3a"}:
        fs.retries = 1  # `retried` tries again: tries of tries of tries take half an hour
    return fs, name


def _settings(protocol: str) -> dict[str, Any]:
    """Of a bucket's client, below what the user's own fsspec configuration says."""
    # Listings are never kept: others may have written since.
    if protocol in {"s3", "s3a"}:
        once = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": SILENCE}
        settings = {"config_kwargs": once, "use_listings_cache": False}
    elif protocol in {"gs", "gcs"}:
        from aiohttp import ClientTimeout  # comes with the client

        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # or it prints a traceback a try
        # gcsfs by itself waits for ever; a bound on the whole would end long uploads.
        silence = ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE)
        settings = {"requests_timeout": silence, "use_listings_cache": False}
    else:
        return {}
    return settings | fsspec.config.conf.get(protocol, {})


def open_file(path: str) -> BinaryIO:
    """A file to read and to seek in; a remote one is fetched block by block.

    Raises:
      OSError: it is not there.
      Unreachable: its bucket does not answer, at any read.
    """
    if not is_remote(path):
        return Path(path).open("rb")
    return cast(BinaryIO, io.BufferedReader(_Remote(path, size_of(path)), BLOCK))


class _Remote(io.RawIOBase):
    """A file in a bucket; each read asks for its own bytes, and again where that fails."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._at = url, size, 0
        self.name, self.mode = url, "rb"  # what every file has
        self._fs, self._name = filesystem(url)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as the file goes.

        Raises:
          Unreachable: the bucket does not give what it holds.
        """
        stop = min(self._at + len(buffer), self._size)
        if self._at >= stop:
            return 0
        read = retried(self._url, lambda: self._whole(self._at, stop))
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)

    def _whole(self, start: int, stop: int) -> bytes:
        read: bytes = self._fs.cat_file(self._name, start=start, end=stop)
        if len(read) != stop - start:
            raise OSError(errno.EIO, "it became shorter while it was read")
        return read


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


def retried(url: str, call: Callable[[], Result]) -> Result:
    """What a call returns, tried again where a network may have failed.

    Raises:
      OSError: what it raised, where trying again would not help; it names `url`.
      Unreachable: it failed however often it was tried.
    """
    tries = 1 if url.startswith(TRIES_ITSELF) else TRIES
    for attempt in range(tries):
        try:
            return call()
        except Exception as error:  # clients raise errors of their own, of no common kind
            if _is_final(error):
                raise _named(error, url) from error
            if attempt == tries - 1:
                said = (isinstance(error, OSError) and error.strerror) or str(error)
                said = " ".join(said.split()) or type(error).__name__
                raise Unreachable(
                    f"{url}: cannot be reached, tried {tries} times: {said}"
                ) from error
        time.sleep(PAUSE * 2**attempt)
    raise AssertionError


FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def _is_final(error: Exception) -> TypeGuard[OSError]:
    return isinstance(error, FINAL) or (isinstance(error, OSError) and error.errno in FULL)


def _named(error: OSError, url: str) -> OSError:
    """The same said of a URL, as the system says it of a file."""
    if error.filename is not None:  # a local file's
        return error
    said = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, said, url)
    return OSError(error.errno, said, url)


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
