"""Local copies of a remote corpus's files: shards on first use, within a bound.

$RBS_CACHE/train-0123456789abcdef/   of one URL and one fingerprint, so that a corpus written
                                     anew never meets its old shards

All corpora, and all processes of a machine, share the bound, which shards being fetched at one
time may exceed until they are here. Least recently read shards are deleted first; the small files
(manifest, tokenizer, descriptions) are not counted and stay.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rbs_jax.data.manifest import NAME, SPLIT, Manifest, read_manifest
from rbs_jax.errors import UserError
from rbs_jax.files import make_folder
from rbs_jax.storage import download, sizes_in

Opened = TypeVar("Opened")
CACHE_GIGABYTES = 50.0
"""Of shards, unless told otherwise [GB of 1e9 bytes]."""
FOLDER = "RBS_CACHE"
"""The environment variable that names another folder than ~/.cache/rbs_jax."""
MANIFEST = "manifest.json"
NEEDED = ("tokenizer.json", "dataset_info.json", "features.json")
OPTIONAL = ("tokenizer_config.json", "chat_template.jinja")
SHARDS = f"{NAME}-{SPLIT}."
"""What the names of shards begin with, those still being fetched too."""
FETCHING = ".fetching"
ABANDONED = 3600.0
"""After which a file still being fetched, but not written to, is that of a killed process [s]."""


class Cache:
    """The local copies of one remote corpus."""

    def __init__(self, url: str, gigabytes: float = CACHE_GIGABYTES) -> None:
        """Fetch the small files, and list the others.

        Raises:
          UserError: there is no corpus, it lacks a file, or it cannot be reached.
        """
        self.url, self.bytes = url, int(gigabytes * 1e9)
        self._root = Path(os.environ.get(FOLDER) or Path.home() / ".cache" / "rbs_jax")
        make_folder(self._root)
        with _fetching(url), tempfile.TemporaryDirectory(dir=self._root) as beside:
            try:
                self.sizes = sizes_in(url)
            except (FileNotFoundError, NotADirectoryError):
                self.sizes = {}
            manifest = Path(beside) / MANIFEST
            if MANIFEST in self.sizes:
                download(f"{url}/{MANIFEST}", manifest)
            self.manifest = _read(manifest.parent, url)
            key = hashlib.sha256(f"{url}\n{self.manifest.fingerprint}".encode()).hexdigest()
            self.folder = self._root / f"{url.rpartition('/')[2]}-{key[:16]}"
            make_folder(self.folder)
            self._fetch_small()
            manifest.replace(self.folder / MANIFEST)
        self._make_room(0)  # the bound may be another than before

    def _fetch_small(self) -> None:
        """Anew each time, since no fingerprint covers all of them."""
        for name in (*NEEDED, *OPTIONAL):
            if name in self.sizes:
                self._fetch(name)
            elif name in NEEDED:
                raise UserError(f"{self.url}/{name}: file is missing; prepare the corpus again")
            else:
                (self.folder / name).unlink(missing_ok=True)

    def opened(self, name: str, opener: Callable[[Path], Opened]) -> Opened:
        """What `opener` makes of the local copy of a shard, fetched where it is not here.

        Another process may have deleted it again before it is opened: then `opener` finds no
        file, and this is to be called again. Once open, a deleted file stays readable.

        Raises:
          UserError: it cannot be fetched, or is not of the size listed when the corpus was opened.
        """
        path = self.folder / name
        with _fetching(f"{self.url}/{name}"), _locked(self.folder / f".{name}.lock"):
            fetched = not self._is_here(path)
            if fetched:
                self._make_room(self.sizes[name])
                self._fetch(name)
            opened = opener(path)
            if fetched:
                self._make_room(0)  # for what others fetched meanwhile
        return opened

    def touch(self, path: Path) -> None:
        """Note that a shard was read now."""
        with contextlib.suppress(FileNotFoundError):  # deleted by another process, and still open
            os.utime(path)

    def forget(self, name: str) -> None:
        """Delete a shard's copy, which turned out to be broken."""
        (self.folder / name).unlink(missing_ok=True)

    def _is_here(self, path: Path) -> bool:
        try:  # a machine that crashed may leave less than was written
            return path.stat().st_size == self.sizes[path.name]
        except FileNotFoundError:
            return False

    def _fetch(self, name: str) -> None:
        """Beside its place, under a name that no other process has; then renamed."""
        beside = self.folder / f"{name}.{uuid.uuid4().hex}{FETCHING}"
        try:
            download(f"{self.url}/{name}", beside)
            if beside.stat().st_size != self.sizes[name]:
                raise UserError(
                    f"{self.url}/{name}: {beside.stat().st_size} bytes came of "
                    f"{self.sizes[name]}; if the corpus was written anew, start again"
                )
            beside.replace(self.folder / name)
        finally:
            beside.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Delete shards, the longest unread first, until `needed` bytes more are within the bound.

        All of them where the bound is less than the one shard that is needed; otherwise the
        newest stays.
        """
        with _locked(self._root / ".lock"):
            found = []
            for path in self._root.glob(f"*/{SHARDS}*"):
                with contextlib.suppress(FileNotFoundError):  # fetched, so renamed
                    found.append((path.stat(), path))
            found.sort(key=lambda entry: entry[0].st_mtime_ns)
            whole = [path for _, path in found if FETCHING not in path.name]
            stay = whole[-1:] if not needed else []
            total, abandoned = sum(stat.st_size for stat, _ in found), time.time() - ABANDONED
            for stat, path in found:
                if total + needed <= self.bytes:
                    return
                if path in stay or (FETCHING in path.name and stat.st_mtime > abandoned):
                    continue
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _read(folder: Path, url: str) -> Manifest:
    """The manifest of a corpus that is a URL, which is what mistakes are named by."""
    try:
        return read_manifest(folder)
    except UserError as error:
        raise UserError(str(error).replace(str(folder), url)) from error


@contextlib.contextmanager
def _fetching(url: str) -> Iterator[None]:
    """Says of what a file system's error is."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{url}: cannot be fetched: {reason}; copies go to $RBS_CACHE or ~/.cache/rbs_jax, "
            "the same command may be given again"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One thread of one process at a time, so that none fetches what another fetches."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
