"""The shard files of a corpus, opened as they are read."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from rbs_jax.data.cache import Cache
from rbs_jax.data.manifest import Manifest, shard_name
from rbs_jax.errors import UserError
from rbs_jax.storage import sizes_in

OPEN_FILES = 128
"""Of a corpus at once; a process may often have 1,024 files open, and several corpora."""
ATTEMPTS = 10
"""How often a copy is fetched that others delete before it is opened."""
MEND = "prepare the corpus again"


class Shards:
    """Records by shard and position; may be called from several threads.

    A shard that is missing or broken is an error, never an empty one.
    """

    def __init__(self, folder: str, manifest: Manifest, cache: Cache | None) -> None:
        """Compare all files with the manifest; open each where they are local.

        Args:
          folder: the corpus's, a path or URL.
          manifest: what it says of itself.
          cache: local copies, where the corpus is remote.

        Raises:
          UserError: a shard is missing, cut short or of another size.
        """
        self._folder, self._cache = folder, cache
        self._shards = manifest.shards
        self._open: OrderedDict[int, tuple[ArrayRecordReader, Path]] = OrderedDict()
        self._lock = threading.Lock()
        sizes = sizes_in(folder) if cache is None else cache.sizes
        for index, shard in enumerate(self._shards):
            size = sizes.get(shard_name(index, len(self._shards)))
            if size is None:
                raise UserError(f"{self._name(index)}: shard is missing; {MEND}")
            if size != shard.get("bytes"):
                said = f"{size} bytes, {shard.get('bytes')} in the manifest"
                raise UserError(f"{self._name(index)}: shard is broken ({said}); {MEND}")
            if cache is None:
                self._reader(index)

    def read(self, shard: int, positions: Sequence[int]) -> list[bytes]:
        """The records of a shard at these positions.

        Raises:
          UserError: the shard cannot be fetched, or is broken.
        """
        reader = self._reader(shard)
        try:
            return reader.read(list(positions))
        except RuntimeError as error:  # the library's way to say so
            raise self._broken(shard, _first_line(error)) from error

    def _reader(self, index: int) -> ArrayRecordReader:
        with self._lock:
            opened = self._open.get(index)
            if opened is not None:
                self._open.move_to_end(index)
        reader, path = opened or self._opened(index)
        if self._cache is not None:
            self._cache.touch(path)
        return reader

    def _opened(self, index: int) -> tuple[ArrayRecordReader, Path]:
        name = shard_name(index, len(self._shards))
        for _ in range(ATTEMPTS):
            if self._cache is None:
                reader, path, _ = _open(Path(self._folder, name))
            else:
                reader, path, there = self._cache.opened(name, _open)
            if reader.ok():
                break
            if self._cache is None or there:
                raise self._broken(index, "cannot be opened")
        else:
            raise UserError(
                f"{self._name(index)}: its local copy was deleted {ATTEMPTS} times before it was "
                "opened; the cache is too small for all who share it, give more "
                "--data.cache-gigabytes"
            )
        count, expected = reader.num_records(), self._shards[index]["blocks"]
        if count != expected:
            raise self._broken(index, f"{count} blocks, {expected} in the manifest")
        with self._lock:
            self._open[index] = reader, path
            self._let_go()
        return reader, path

    def _let_go(self) -> None:
        """Drop the readers read longest ago, and those whose copies are deleted.

        Python closes them once no thread reads them any more: only then is a deleted copy's
        room free.
        """
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        if self._cache is not None:
            for index in [i for i, (_, path) in self._open.items() if not path.exists()]:
                del self._open[index]

    def _name(self, index: int) -> str:
        return f"{self._folder}/{shard_name(index, len(self._shards))}"

    def _broken(self, index: int, said: str) -> UserError:
        mend = MEND
        if self._cache is not None:
            self._cache.forget(shard_name(index, len(self._shards)))
            mend = f"its local copy is deleted: start again, and if that does not help, {MEND}"
        with self._lock:
            self._open.pop(index, None)
        return UserError(f"{self._name(index)}: shard is broken ({said}); {mend}")


def _open(path: Path) -> tuple[ArrayRecordReader, Path, bool]:
    """For single records in any order: no reading ahead, and little of a file at a time.

    And whether the file is there, asked while no other thread can fetch it again.
    """
    options = "readahead_buffer_size:0"
    reader = ArrayRecordReader(str(path), options=options, file_reader_buffer_size=32768)
    return reader, path, path.exists()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "cannot be read"
