"""Files to parts that are read on their own, and parts to the fixed list of shards."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from rbs_jax.data.arrayrecord import record_count
from rbs_jax.data.parquet import row_groups
from rbs_jax.data.recipe import Recipe
from rbs_jax.errors import UserError
from rbs_jax.remote import Unreachable, is_remote
from rbs_jax.storage import size_of

PART_BYTES = 4 * 2**20
"""Text of a part where a file can be cut [bytes]."""
SHARD_BYTES = 32 * 2**20
"""Text of a shard of a large corpus, but for the last and for files that cannot be cut [bytes]."""
SHARDS = 128
"""A smaller corpus is cut to about so many, so that there is work for many processes; a shard has
at least one whole part, since up to a block is lost at its end."""
EXPANDS = 4
"""About how many times larger text is than its .gz or .zst file."""
READERS = 16
"""Files looked at at once: a bucket answers late, but many at a time."""


class Part(NamedTuple):
    """A piece of a file: lines that begin in a range of bytes, row groups, or records."""

    file: str
    start: int
    stop: int | None
    """None for the end."""
    size: int
    """About how much text it holds [bytes]."""

    @property
    def whole(self) -> bool:
        """Whether it is all of its file."""
        return self.start == 0 and self.stop is None


def list_parts(
    files: Sequence[str], recipe: Recipe, broken: Callable[[UserError], None]
) -> list[Part]:
    """The parts of all files, in order.

    Args:
      files: what `find_files` found.
      recipe: which columns a parquet file must have.
      broken: told of every file that cannot be read.

    Raises:
      Unreachable: a file's bucket does not answer.
    """

    def look(file: str) -> list[Part] | UserError:
        try:
            return _parts_of(file, recipe)
        except Unreachable:
            raise
        except UserError as error:
            return error

    parts: list[Part] = []
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(look, files):
            if isinstance(found, UserError):
                broken(found)
            else:
                parts += found
    return parts


def _parts_of(file: str, recipe: Recipe) -> list[Part]:
    name = file.rpartition("/")[2]
    if name.endswith(".parquet"):
        return _cut(file, row_groups(file, recipe.fields()))
    try:
        size = size_of(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    if ".array_record" in name and not is_remote(file):  # one in a bucket is fetched whole
        count = record_count(file)
        return _cut(file, [size // max(count, 1)] * count)
    if name.endswith(".jsonl") and size > PART_BYTES:
        starts = range(0, size, PART_BYTES)
        parts = [Part(file, start, start + PART_BYTES, PART_BYTES) for start in starts]
        return [*parts[:-1], Part(file, starts[-1], None, size - starts[-1])]
    return [Part(file, 0, None, size * (EXPANDS if name.endswith((".gz", ".zst")) else 1))]


def _cut(file: str, sizes: list[int]) -> list[Part]:
    """Runs of row groups or records with PART_BYTES of text, given the text in each."""
    parts, start, size = [], 0, 0
    for stop, own in enumerate(sizes, start=1):
        size += own
        if size >= PART_BYTES or stop == len(sizes):
            parts.append(Part(file, start, stop if stop < len(sizes) else None, size))
            start, size = stop, 0
    return parts or [Part(file, 0, None, 0)]


def cut_shards(parts: Sequence[Part], shuffle_seed: int | None) -> list[list[Part]]:
    """The parts of each shard: neighbours, or any ones where they are shuffled.

    It hangs on the files and the recipe alone, so that any number of workers,
    stopped and started, write the same shards.
    """
    total = sum(part.size for part in parts)
    enough = min(SHARD_BYTES, max(PART_BYTES, total // SHARDS))
    order = np.arange(len(parts))
    if shuffle_seed is not None:
        order = np.random.default_rng((shuffle_seed, len(parts))).permutation(len(parts))
    shards: list[list[Part]] = [[]]
    size = 0
    for index in order:
        if size >= enough:
            shards.append([])
            size = 0
        shards[-1].append(parts[int(index)])
        size += parts[int(index)].size
    return shards
