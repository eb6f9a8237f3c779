"""Lines of plain, gzip and zstd files."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from rbs_jax.errors import UserError

CHUNK = 64 * 1024
"""Compressed bytes taken at once [bytes]."""
WINDOW = 2**31
"""Largest zstd window that is taken, what `zstd --long=31` writes [bytes]."""


class Line(NamedTuple):
    """One line that is not blank, and where it stands."""

    content: bytes
    where: str
    """`file:line`, for messages."""


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, .gz and .zst ones decompressed; blank lines are skipped but counted.

    A byte order mark at the start is no part of the first line.

    Raises:
      UserError: the file is missing, cut short or corrupt.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield Line(content, f"{path}:{number}")
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path}: cannot be read after line {number}: {error}") from error


def _open(path: Path) -> io.BufferedIOBase:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        return io.BufferedReader(_ZstdFile(path))
    return path.open("rb")


class _ZstdFile(io.RawIOBase):
    """What the frames of a zstd file hold, one after the other.

    The library's own reader takes a file cut short inside a frame for a whole one.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
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
