"""Reading a prepared corpus, by rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from array_record.python.array_record_module import ArrayRecordReader

from rbs_jax.data.manifest import SPLIT, read_manifest, shard_name
from rbs_jax.data.tokens import Tokens, load_tokens
from rbs_jax.errors import UserError


class Blocks(NamedTuple):
    """Rows of a corpus."""

    tokens: np.ndarray
    """[rows, block_length], int32."""
    documents: np.ndarray
    """[rows, 2], int64: first and last document of each."""


class Corpus:
    """A prepared corpus, opened for reading."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`.

        Raises:
          UserError: it is no corpus, or a shard is missing or cut short.
        """
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._check_shards()
        if not flags.FLAGS.is_parsed():  # tfds reads absl flags, which only absl apps parse
            flags.FLAGS.mark_as_parsed()
        self._source = tfds.builder_from_directory(str(folder)).as_data_source(SPLIT)

    def _check_shards(self) -> None:
        # TFDS would take a missing or broken shard for an empty one.
        shards = self.manifest.shards
        for index, shard in enumerate(shards):
            path = self.folder / shard_name(index, len(shards))
            if not path.is_file():
                raise UserError(f"{path}: shard is missing; prepare the corpus again")
            if path.stat().st_size != shard.get("bytes") or not _opens(path):
                raise UserError(f"{path}: shard is broken; prepare the corpus again")

    def __len__(self) -> int:
        return self.manifest.block_count

    def read(self, indices: Sequence[int]) -> Blocks:
        """The blocks at these indices, fetched in one call.

        Raises:
          UserError: a shard's content is broken.
        """
        try:
            rows = self._source.__getitems__([int(index) for index in indices])
        except RuntimeError as error:  # the library's way to say so
            said = str(error).splitlines()[0] if str(error) else "cannot be read"
            raise UserError(
                f"{self.folder}: a shard is broken ({said}); prepare the corpus again"
            ) from error
        return Blocks(
            np.stack([row["tokens"] for row in rows]), np.stack([row["documents"] for row in rows])
        )

    def tokens(self) -> Tokens:
        """The corpus's tokenizer."""
        return load_tokens(self.folder)


def _opens(path: Path) -> bool:
    reader = ArrayRecordReader(str(path))
    if not reader.ok():
        return False  # and close() would raise
    reader.close()
    return True
