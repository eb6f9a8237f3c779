"""Writing a corpus: shards of blocks that TFDS reads, a tokenizer and a manifest.

CORPUS/manifest.json               what it holds, its fingerprint and how it was made
CORPUS/tokenizer.json              with tokenizer_config.json beside it
CORPUS/dataset_info.json           and features.json: makes the folder a TFDS data set
CORPUS/blocks-train.array_record-00000-of-00004
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from tensorflow_datasets.core import example_serializer

from rbs_jax.data.blocks import pack
from rbs_jax.data.manifest import NAME, SPLIT, Manifest, shard_name
from rbs_jax.data.sources import Unreadable, in_batches
from rbs_jax.data.tokens import Tokens
from rbs_jax.errors import UserError
from rbs_jax.files import whole_folder, write_json

SHARD_CHARACTERS = 16_000_000
"""Text a shard holds at least, but for the last [characters]."""
ENCODE_DOCUMENTS = 512
"""Documents tokenised in one call."""


class Shard(NamedTuple):
    """What `write_shard` wrote."""

    blocks: int
    documents: int
    empty_documents: int
    tokens: int
    """Ids of all documents and their ends, the dropped remainder included."""
    dropped_tokens: int
    """Ids after the last whole block."""
    bytes: int
    sha256: str
    """Of the blocks' ids and documents, in order."""


def _features(block_length: int) -> tfds.features.FeaturesDict:
    return tfds.features.FeaturesDict(
        {
            "tokens": tfds.features.Tensor(shape=(block_length,), dtype=np.int32),
            "documents": tfds.features.Tensor(shape=(2,), dtype=np.int64),
        }
    )


def write_shard(
    documents: Iterable[str], path: Path, tokens: Tokens, block_length: int, first_document: int
) -> Shard:
    """Tokenise, pack and write one shard, beside its place first, then renamed.

    Args:
      documents: texts; those without any are counted and left out.
      path: the ArrayRecord file.
      tokens: turns text into ids.
      block_length: ids of a block [tokens].
      first_document: number of the shard's first document in the corpus.

    Raises:
      OSError: the file system refuses a write.
    """
    features = _features(block_length)
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    digest, counts = hashlib.sha256(), {"documents": 0, "empty": 0, "tokens": 0, "blocks": 0}

    def encoded() -> Iterator[list[int]]:
        for texts in in_batches(documents, ENCODE_DOCUMENTS):
            full = [text for text in texts if text.strip()]
            counts["empty"] += len(texts) - len(full)
            counts["documents"] += len(full)
            for ids in tokens.encode(full):
                counts["tokens"] += len(ids) + 1
                yield ids

    partial = path.with_name(path.name + ".partial")
    # Groups of one record make every block reachable without decoding its neighbours.
    writer = ArrayRecordWriter(str(partial), "group_size:1")
    for block in pack(encoded(), first_document, block_length, tokens.end_id):
        span = np.array([block.first_document, block.last_document], np.int64)
        digest.update(block.tokens.tobytes() + span.tobytes())
        example = features.encode_example({"tokens": block.tokens, "documents": span})
        writer.write(serializer.serialize_example(example))
        counts["blocks"] += 1
    try:
        writer.close()
    except RuntimeError as error:  # its way to say what the file system refused, at any write
        raise OSError(str(error)) from error
    os.replace(partial, path)
    return Shard(
        blocks=counts["blocks"],
        documents=counts["documents"],
        empty_documents=counts["empty"],
        tokens=counts["tokens"],
        dropped_tokens=counts["tokens"] - counts["blocks"] * block_length,
        bytes=path.stat().st_size,
        sha256=digest.hexdigest(),
    )


def _cut_shards(documents: Iterable[str]) -> Iterator[list[str]]:
    """Runs of whole documents of at least SHARD_CHARACTERS, the last of what remains.

    Where a shard ends depends on the documents alone, so the list of shards is
    fixed before anything is written.
    """
    shard: list[str] = []
    size = 0
    for text in documents:
        shard.append(text)
        size += len(text)
        if size >= SHARD_CHARACTERS:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def write_corpus(
    documents: Iterable[str],
    out: Path,
    tokens: Tokens,
    block_length: int,
    settings: dict[str, object],
    unreadable: Unreadable | None = None,
) -> Manifest:
    """Write a whole corpus folder: beside its place first, then renamed.

    Args:
      documents: texts; those without any are counted and left out.
      out: the corpus's folder; must not exist.
      tokens: turns text into ids.
      block_length: ids of a block [tokens].
      settings: how it is made, for the manifest.
      unreadable: what was left out, once `documents` is read to its end.

    Raises:
      UserError: `out` exists or cannot be written, no document has text, or there
        is not one whole block.
    """
    if block_length < 2:
        raise UserError(
            f"block length {block_length}: a block needs a prefix and a suffix, at least 2 ids"
        )
    with whole_folder(out) as folder:
        return _write(documents, folder, tokens, block_length, settings, unreadable or Unreadable())


def _write(
    documents: Iterable[str],
    folder: Path,
    tokens: Tokens,
    block_length: int,
    settings: dict[str, object],
    unreadable: Unreadable,
) -> Manifest:
    shards: list[Shard] = []
    for texts in _cut_shards(documents):
        first = sum(shard.documents for shard in shards)
        path = folder / f"shard-{len(shards):05d}"
        shards.append(write_shard(texts, path, tokens, block_length, first))
    manifest = _manifest(shards, tokens, block_length, settings, unreadable)
    _write_tfds(folder, shards, block_length)
    tokens.save(folder)
    write_json(folder / "manifest.json", dataclasses.asdict(manifest))
    return manifest


def _manifest(
    shards: Sequence[Shard],
    tokens: Tokens,
    block_length: int,
    settings: dict[str, object],
    unreadable: Unreadable,
) -> Manifest:
    blocks, documents = sum(s.blocks for s in shards), sum(s.documents for s in shards)
    if not documents:
        lost = f"; {unreadable.count} cannot be read, the first: {unreadable.first}"
        raise UserError(f"the sources hold no document with text{lost if unreadable.count else ''}")
    if not blocks:
        raise UserError(
            f"the sources hold {sum(s.tokens for s in shards)} tokens in {len(shards)} shards, "
            f"not one block of {block_length}; add text or lower --block-length"
        )
    parts = [tokens.sha256, str(block_length), *(shard.sha256 for shard in shards)]
    return Manifest(
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        block_length=block_length,
        block_count=blocks,
        token_count=blocks * block_length,
        dropped_token_count=sum(shard.dropped_tokens for shard in shards),
        document_count=documents,
        empty_document_count=sum(shard.empty_documents for shard in shards),
        unreadable_document_count=unreadable.count,
        vocab_size=tokens.vocab_size,
        tokenizer_sha256=tokens.sha256,
        end_of_document=tokens.end,
        settings=settings,
        shards=tuple(shard._asdict() for shard in shards),
    )


def _write_tfds(folder: Path, shards: Sequence[Shard], block_length: int) -> None:
    """Name the shards as TFDS expects, and describe them to it."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(folder),
        dataset_name=NAME,
        split=SPLIT,
        filetype_suffix="array_record",
    )
    for index in range(len(shards)):
        os.replace(folder / f"shard-{index:05d}", folder / shard_name(index, len(shards)))
    split_info = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[shard.blocks for shard in shards],
        num_bytes=sum(shard.bytes for shard in shards),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(block_length),
        split_infos=[split_info],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        description="Blocks of token ids, each with the first and last document it touches.",
        check_data=False,
    )
