"""What a corpus says of itself, and what its files are called."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rbs_jax.errors import UserError

NAME, SPLIT = "blocks", "train"
"""The TFDS data set's name and its one split."""


def shard_name(index: int, count: int) -> str:
    """The file of a shard, named as TFDS expects."""
    return f"{NAME}-{SPLIT}.array_record-{index:05d}-of-{count:05d}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a corpus holds and how it was made."""

    fingerprint: str
    """Hash of all blocks, the tokenizer and the block length: equal corpora, equal fingerprint."""
    block_length: int
    """Ids of a block [tokens]."""
    overlap: int
    """Ids that a block shares with the one before it [tokens]."""
    block_count: int
    token_count: int
    """Ids in blocks, those that two blocks share in each of them [tokens]."""
    dropped_token_count: int
    """Ids left over at the end of a shard [tokens]."""
    document_count: int
    """Documents with text."""
    left_out: dict[str, int]
    """Documents that were not taken, by reason: empty, unreadable, url, score, short, long,
    duplicate, near_duplicate, contaminated."""
    broken_files: tuple[str, ...]
    """Files that hold no document, or could not be read to their end, and why."""
    vocab_size: int
    tokenizer_sha256: str
    end_of_document: str
    settings: dict[str, Any]
    """How it was made: the recipe, or whatever else the maker notes."""
    shards: tuple[dict[str, Any], ...]
    """What each shard holds, in order: blocks, documents, tokens, bytes and a hash."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a corpus.

    Raises:
      UserError: there is none, or it cannot be understood.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{folder}: no corpus here (no manifest.json); make one with `rbs prepare`")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(fields[name]) for name in ("shards", "broken_files")}
        return Manifest(**fields | lists)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a manifest of this version: {error}") from error
