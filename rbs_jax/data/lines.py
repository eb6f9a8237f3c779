"""Lines of plain, gzip and zstd files."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import zstandard

from rbs_jax.errors import UserError
from rbs_jax.storage import open_file

CHUNK = 64 * 1024
"""Compressed bytes taken at once [bytes]."""
WINDOW = 2**31
"""Largest zstd window that is taken, what `zstd --long=31` writes [bytes]."""
LONGEST = 64 * 2**20
"""A line beyond this is skipped unread [bytes]."""


class Line(NamedTuple):
    """One line that is not blank, and where it stands."""

    content: bytes | None
    """None where it is longer than is read."""
    where: str
    """`file:line`, for messages; behind a part's start `file:line N from byte START`."""


def read_lines(file: str, start: int = 0, stop: int | None = None) -> Iterator[Line]:
    """The lines of a file, .gz and .zst ones decompressed; blank lines are skipped but counted.

    A byte order mark at the start is no part of the first line.

    Args:
      file: its path or URL.
      start: the lines that begin at this byte or later, of a file that is not compressed.
      stop: and before this one; None for the end.

    Raises:
      UserError: the file is missing, cut short or corrupt.
    """
    number = 0
    behind = f" from byte {start}" if start else ""
    try:
        with _open(file) as opened:
            at = _skip_to_line(opened, start)
            while stop is None or at < stop:
                line = opened.readline(LONGEST)
                if not line:
                    return
                number, at = number + 1, at + len(line)
                too_long = len(line) == LONGEST and not line.endswith(b"\n")
                if too_long:
                    at += _skip_line(opened)
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if too_long or content.strip():
                    where = f"{file}:line {number}{behind}" if behind else f"{file}:{number}"
                    yield Line(None if too_long else content, where)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        said = f"cannot be read after line {number}{behind}: {error}"
        raise UserError(f"{file}: {said}") from error


def _skip_to_line(file: io.BufferedIOBase | BinaryIO, start: int) -> int:
    """Where the first line begins that begins at `start` or later."""
    if not start:
        return 0
    file.seek(start - 1)
    return start - 1 + _skip_line(file)


def _skip_line(file: io.BufferedIOBase | BinaryIO) -> int:
    """Read on to a line's end, holding little of it; returns how much that was [bytes]."""
    skipped = 0
    while True:
        read = file.readline(CHUNK)
        skipped += len(read)
        if not read or read.endswith(b"\n"):
            return skipped


def _open(file: str) -> io.BufferedIOBase | BinaryIO:
    opened = open_file(file)
    if file.endswith(".gz"):
        return gzip.GzipFile(fileobj=opened)
    if file.endswith(".zst"):
        return io.BufferedReader(_ZstdFile(opened))
    return opened


class _ZstdFile(io.RawIOBase):
    """What the frames of a zstd file hold, one after the other.

    The library's own reader takes a file cut short inside a frame for a whole one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as one chunk goes; 0 at the end of the last frame."""
        while not self._ready and self._take_chunk():
            pass
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _take_chunk(self) -> bool:
        """Decompress the next chunk; False at the end of the file.

        Raises:
          EOFError: the file ends inside a frame.
        """
        chunk = self._compressed or self._file.read(CHUNK)
        if not chunk:
            if self._frame is not None:
                raise EOFError("the file ends inside a zstd frame")
            return False
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        self._ready = memoryview(self._frame.decompress(chunk))
        self._compressed = b""
        if self._frame.eof:
            self._compressed, self._frame = self._frame.unused_data, None
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
