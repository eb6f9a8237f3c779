"""One shard of a corpus, from its parts to its file: what every worker of any kind calls."""

import dataclasses
import functools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from rbs_jax.data.corpus import Shard, write_shard
from rbs_jax.data.documents import Document, LeftOut, read_part
from rbs_jax.data.manifest import shard_name
from rbs_jax.data.parts import Part
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.tokens import Tokens, load_tokens
from rbs_jax.errors import UserError
from rbs_jax.files import writing
from rbs_jax.remote import is_remote
from rbs_jax.storage import exists, put, put_text, read_text

WINDOW_CHARACTERS = 16_000_000
"""Documents that are shuffled among each other hold about so much [characters]."""
WORK = "unfinished"
"""The folder in a corpus that is not finished for what tells how far it is."""


Dropped = Mapping[str, Mapping[int, frozenset[int]]]
"""Rows to leave out of a shard, by reason and by the part's place in the shard."""


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard, or to look at its documents before."""

    index: int
    count: int
    """Of all shards."""
    parts: tuple[Part, ...]
    dropped: Dropped
    recipe: Recipe
    folder: str
    """The corpus's, path or URL; the tokenizer is there."""
    tokenizer_sha256: str
    strict: bool

    @property
    def size(self) -> int:
        """About how much text there is [bytes]."""
        return sum(part.size for part in self.parts)

    @property
    def work(self) -> str:
        """The folder for what is known of shards, path or URL."""
        return f"{self.folder}/{WORK}"

    @property
    def note(self) -> str:
        """Where it is told that the shard is finished, and what it holds."""
        return f"{self.work}/shard-{self.index:05d}.json"


def make_shard(task: ShardTask) -> LeftOut:
    """Write a shard and then its note, unless an earlier run has; returns what was left out.

    Raises:
      UserError: a source or the corpus's folder refuses.
    """
    left_out = LeftOut(task.strict)
    if exists(task.note):
        return left_out
    if parent_process() is not None:  # one of several
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    name = shard_name(task.index, task.count)
    beside = None if is_remote(task.folder) else task.folder
    with (
        writing(task.folder),
        tempfile.TemporaryDirectory(dir=beside, suffix=".partial") as local,
    ):
        path = Path(local) / name
        tokens, recipe = _tokens(task.folder, task.tokenizer_sha256), task.recipe
        texts = (document.text for document in _documents(task, left_out))
        shard = write_shard(texts, path, tokens, recipe.block_length, task.index, recipe.overlap)
        put(path, f"{task.folder}/{name}")
        note = {"shard": shard._asdict(), "left_out": vars(left_out)}
        put_text(json.dumps(note), task.note)
    return left_out


def finished(task: ShardTask) -> tuple[Shard, LeftOut]:
    """What the note of a finished shard tells.

    Raises:
      FileNotFoundError: it is not finished.
    """
    text = read_text(task.note)
    if text is None:
        raise FileNotFoundError(task.note)
    note = json.loads(text)
    counts = Counter(note["left_out"]["counts"])
    return Shard(**note["shard"]), LeftOut(**note["left_out"] | {"counts": counts})


def _documents(task: ShardTask, left_out: LeftOut) -> Iterator[Document]:
    kept = _kept(task, left_out)
    if task.recipe.shuffle_seed is None:
        return kept
    return _shuffled(kept, (task.recipe.shuffle_seed, task.index))


def _kept(task: ShardTask, left_out: LeftOut) -> Iterator[Document]:
    for place, part in enumerate(task.parts):
        reasons = {row: reason for reason, of in task.dropped.items() for row in of.get(place, ())}
        for document in read_part(part, task.recipe, left_out):
            if document.row in reasons:
                left_out.counts[reasons[document.row]] += 1
            else:
                yield document


def _shuffled(documents: Iterator[Document], seed: tuple[int, ...]) -> Iterator[Document]:
    """Documents shuffled a window at a time, so that memory holds no more than one."""
    rng = np.random.default_rng(seed)
    window: list[Document] = []
    size = 0
    for document in documents:
        window.append(document)
        size += len(document.text)
        if size >= WINDOW_CHARACTERS:
            yield from (window[index] for index in rng.permutation(len(window)))
            window, size = [], 0
    yield from (window[index] for index in rng.permutation(len(window)))


@functools.lru_cache(1)
def _tokens(folder: str, sha256: str) -> Tokens:
    """The corpus's tokenizer, read once by each process for each corpus."""
    tokens = load_tokens(folder)
    if tokens.sha256 != sha256:
        raise UserError(f"{folder}: not the tokenizer this corpus was begun with; remove it")
    return tokens
