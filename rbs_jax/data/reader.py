"""Reading a prepared corpus, by rows: from local disk, or from a bucket through local copies."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from rbs_jax.data.cache import CACHE_GIGABYTES, Cache
from rbs_jax.data.manifest import read_manifest
from rbs_jax.data.shards import Shards
from rbs_jax.data.tokens import Tokens, load_tokens
from rbs_jax.remote import is_remote

THREADS = 8
"""Shards fetched and read at once."""


class Blocks(NamedTuple):
    """Rows of a corpus."""

    tokens: np.ndarray
    """[rows, block_length], int32."""
    documents: np.ndarray
    """[rows, 2], int64: first and last document of each."""


class Corpus:
    """A prepared corpus, opened for reading."""

    def __init__(self, folder: str | Path, cache_gigabytes: float = CACHE_GIGABYTES) -> None:
        """Open a corpus: local files are read where they are, remote ones copied as they are read.

        Args:
          folder: its path or URL.
          cache_gigabytes: of local copies of remote shards, this corpus's and others' together.

        Raises:
          UserError: it is no corpus, cannot be reached, or a shard is missing or cut short.
        """
        self.folder = str(folder).rstrip("/") if is_remote(str(folder)) else str(Path(folder))
        """As it was named, for messages."""
        self._cache = Cache(self.folder, cache_gigabytes) if is_remote(self.folder) else None
        self._local = Path(self.folder) if self._cache is None else self._cache.folder
        self.manifest = read_manifest(self._local) if self._cache is None else self._cache.manifest
        self.shard_blocks = [int(str(shard["blocks"])) for shard in self.manifest.shards]
        """Of each shard; some may have none."""
        self._ends = np.cumsum(self.shard_blocks, dtype=np.int64)
        self._shards = Shards(self.folder, self.manifest, self._cache)
        if not flags.FLAGS.is_parsed():  # tfds reads absl flags, which only absl apps parse
            flags.FLAGS.mark_as_parsed()
        self._features = tfds.builder_from_directory(str(self._local)).info.features
        self._threads = ThreadPoolExecutor(THREADS)

    def __len__(self) -> int:
        return self.manifest.block_count

    def read(self, indices: Sequence[int]) -> Blocks:
        """The blocks at these indices, several shards at once.

        Raises:
          UserError: a shard cannot be fetched, or its content is broken.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise IndexError(f"{self.folder}: has {len(self)} blocks")
        of_shard = np.searchsorted(self._ends, wanted, side="right")  # passes over empty shards
        starts = self._ends - np.array(self.shard_blocks)
        shards = np.unique(of_shard).tolist()
        rows = [np.flatnonzero(of_shard == shard) for shard in shards]
        positions = [(wanted[r] - starts[s]).tolist() for s, r in zip(shards, rows, strict=True)]
        read = map if len(shards) == 1 else self._threads.map
        records = [b""] * len(wanted)
        for of_rows, found in zip(rows, read(self._shards.read, shards, positions), strict=True):
            for row, record in zip(of_rows.tolist(), found, strict=True):
                records[row] = record
        decoded = [self._features.deserialize_example_np(record) for record in records]
        return Blocks(
            np.stack([row["tokens"] for row in decoded]),
            np.stack([row["documents"] for row in decoded]),
        )

    @property
    def exceeds_cache(self) -> bool:
        """Whether it is remote, and all its shards are more than the cache may hold."""
        return self._cache is not None and self.bytes > self._cache.bytes

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(int(str(shard["bytes"])) for shard in self.manifest.shards)

    def tokens(self) -> Tokens:
        """The corpus's tokenizer."""
        return load_tokens(self._local)
