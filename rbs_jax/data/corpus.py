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
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from jaxtyping import Int
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from rbs_jax.data.blocks import pack
from rbs_jax.data.manifest import NAME, SPLIT, Manifest, shard_name
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.tokens import Tokens
from rbs_jax.errors import UserError
from rbs_jax.files import whole_folder, write_json

SHARD_CHARACTERS = 16_000_000
"""Text a shard holds at least, but for the last, where documents are at hand [characters]."""
ENCODE_DOCUMENTS = 512
ENCODE_CHARACTERS = 1_000_000
"""Documents tokenised in one call: so many, or of so much text [characters]."""
NUMBERS = 2**32
"""Documents are numbered from this times their shard's number, so that shards need not know how
many there are before them."""


class EmptyCorpus(UserError):
    """There is nothing to make a corpus of."""


class Shard(NamedTuple):
    """What `write_shard` wrote."""

    blocks: int
    documents: int
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
    documents: Iterable[str],
    path: Path,
    tokens: Tokens,
    block_length: int,
    index: int,
    overlap: int = 0,
) -> Shard:
    """Tokenise, pack and write one shard, beside its place first, then renamed.

    Args:
      documents: texts.
      path: the ArrayRecord file.
      tokens: turns text into ids.
      block_length: ids of a block [tokens].
      index: the shard's number in the corpus.
      overlap: ids that a block shares with the one before it [tokens].

    Raises:
      OSError: the file system refuses a write.
    """
    digest, counts = hashlib.sha256(), {"documents": 0, "tokens": 0, "blocks": 0}

    def encoded() -> Iterator[list[int]]:
        for texts in _runs(documents, ENCODE_CHARACTERS, ENCODE_DOCUMENTS):
            counts["documents"] += len(texts)
            for ids in tokens.encode(texts):
                counts["tokens"] += len(ids) + 1
                yield ids

    partial = path.with_name(path.name + ".partial")
    # Groups of one record make every block reachable without decoding its neighbours.
    writer = ArrayRecordWriter(str(partial), "group_size:1")
    for block in pack(encoded(), index * NUMBERS, block_length, tokens.end_id, overlap):
        span = np.array([block.first_document, block.last_document], np.int64)
        digest.update(block.tokens.tobytes() + span.tobytes())
        writer.write(_record(block.tokens, span))
        counts["blocks"] += 1
    try:
        writer.close()
    except RuntimeError as error:  # its way to say what the file system refused, at any write
        raise OSError(str(error)) from error
    os.replace(partial, path)
    used = counts["blocks"] * (block_length - overlap) + (overlap if counts["blocks"] else 0)
    return Shard(
        **counts,
        dropped_tokens=counts["tokens"] - used,
        bytes=path.stat().st_size,
        sha256=digest.hexdigest(),
    )


def _record(tokens: Int[np.ndarray, " N"], documents: Int[np.ndarray, " 2"]) -> bytes:
    """A block as TFDS's serializer writes it, which takes up to twice as long."""
    fields = {
        name: tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=values.tolist()))
        for name, values in (("tokens", tokens), ("documents", documents))
    }
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=fields))
    # Else the fields' order, and so the file's bytes, differ from process to process.
    return cast(bytes, example.SerializeToString(deterministic=True))


def _runs(
    documents: Iterable[str], characters: int, most: int | None = None
) -> Iterator[list[str]]:
    """Runs of whole documents of at least so much text, or of so many, the last of what remains."""
    run: list[str] = []
    size = 0
    for text in documents:
        run.append(text)
        size += len(text)
        if size >= characters or len(run) == most:
            yield run
            run, size = [], 0
    if run:
        yield run


def write_corpus(
    documents: Iterable[str],
    out: Path,
    tokens: Tokens,
    block_length: int,
    settings: dict[str, Any],
) -> Manifest:
    """Write a whole corpus folder of documents at hand: beside its place first, then renamed.

    Args:
      documents: texts; those without any are counted and left out.
      out: the corpus's folder; must not exist.
      tokens: turns text into ids.
      block_length: ids of a block [tokens].
      settings: how it is made, for the manifest.

    Raises:
      UserError: `out` exists or cannot be written, no document has text, or there
        is not one whole block.
    """
    length = Recipe(block_length=block_length).block_length
    empty = 0

    def with_text() -> Iterator[str]:
        nonlocal empty
        for text in documents:
            if text.strip():
                yield text
            else:
                empty += 1

    with whole_folder(out) as folder:
        shards = [
            write_shard(texts, folder / f"shard-{index:05d}", tokens, length, index)
            for index, texts in enumerate(_runs(with_text(), SHARD_CHARACTERS))
        ]
        for index in range(len(shards)):
            name = shard_name(index, len(shards))
            os.replace(folder / f"shard-{index:05d}", folder / name)
        return finish(folder, shards, tokens, length, settings, {"empty": empty} if empty else {})


def finish(
    folder: Path,
    shards: Sequence[Shard],
    tokens: Tokens,
    block_length: int,
    settings: dict[str, Any],
    left_out: dict[str, int],
    broken: Sequence[str] = (),
    unreadable: Sequence[str] = (),
    overlap: int = 0,
) -> Manifest:
    """Describe shards that are written, as a corpus.

    Args:
      folder: where the descriptions go.
      shards: what was written, in order.
      tokens: what turned text into ids.
      block_length: ids of a block [tokens].
      settings: how it is made.
      left_out: documents that were not taken, by reason.
      broken: files that could not be read to their end, and why.
      unreadable: the first documents that could not be read, and why.
      overlap: ids that a block shares with the one before it [tokens].

    Raises:
      EmptyCorpus: no document has text, or there is not one whole block.
    """
    blocks, documents = sum(s.blocks for s in shards), sum(s.documents for s in shards)
    if not documents:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        why = f"; left out: {why}" if why else ""
        first = [*broken, *unreadable][:1]
        why += f"; the first that cannot be read: {first[0]}" if first else ""
        raise EmptyCorpus(f"the sources hold no document with text{why}")
    if not blocks:
        raise EmptyCorpus(
            f"the sources hold {sum(s.tokens for s in shards)} tokens in {len(shards)} shards, "
            f"not one block of {block_length}; add text or lower --block-length"
        )
    parts = [tokens.sha256, str(block_length), *(shard.sha256 for shard in shards)]
    manifest = Manifest(
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        block_length=block_length,
        overlap=overlap,
        block_count=blocks,
        token_count=blocks * block_length,
        dropped_token_count=sum(shard.dropped_tokens for shard in shards),
        document_count=documents,
        left_out=dict(sorted(left_out.items())),
        broken_files=tuple(broken),
        vocab_size=tokens.vocab_size,
        tokenizer_sha256=tokens.sha256,
        end_of_document=tokens.end,
        settings=settings,
        shards=tuple(shard._asdict() for shard in shards),
    )
    _write_tfds(folder, shards, block_length)
    tokens.save(folder)
    write_json(folder / "manifest.json", dataclasses.asdict(manifest))
    return manifest


def _write_tfds(folder: Path, shards: Sequence[Shard], block_length: int) -> None:
    """Describe the shards to TFDS."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(folder),
        dataset_name=NAME,
        split=SPLIT,
        filetype_suffix="array_record",
    )
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
