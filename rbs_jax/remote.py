"""Buckets (s3://, gs://) through fsspec: clients that give up in time, and tries again."""

import errno
import io
import logging
import os
import time
from collections.abc import Callable
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
        _restrain(fs, path)
    return fs, name


def _restrain(fs: Any, path: str) -> None:
    """Keeps the client of s3:// from trying and from waiting longer than it is told.

    Raises:
      UserError: the user's own settings of it (profile, credentials) are wrong.
    """
    from botocore.exceptions import BotoCoreError
    from botocore.handlers import add_expect_header

    fs.retries = 1  # `retried` tries again: tries of tries of tries take half an hour
    try:  # with this header it waits for leave to upload, and for ever
        fs.s3.meta.events.unregister("before-call.s3", add_expect_header)
    except BotoCoreError as error:
        raise UserError(f"{path}: {error}") from error


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


def bound_all_clients(path: str) -> None:
    """Have orbax, which opens a run's URL itself, give up in time too.

    Raises:
      UserError: orbax knows no such URLs.
    """
    if is_remote(path):
        protocol = path.partition("://")[0]
        if protocol != "gs":
            raise UserError(f"{path}: a run lies on a disk or in a bucket of Google's, gs://")
        fsspec.config.conf[protocol] = _settings(protocol)


def open_remote(url: str, size: int) -> BinaryIO:
    """A remote file of a known size [bytes], to read and to seek in, fetched block by block.

    Raises:
      Unreachable: at a read, its bucket does not answer.
    """
    return cast(BinaryIO, io.BufferedReader(_Remote(url, size), BLOCK))


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
