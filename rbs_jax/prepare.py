"""`rbs prepare`: documents to a corpus, in many processes, resumable at every shard."""

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from rbs_jax.data.corpus import finish
from rbs_jax.data.documents import LeftOut, read_part
from rbs_jax.data.manifest import Manifest, shard_name
from rbs_jax.data.parts import Part, cut_shards, list_parts
from rbs_jax.data.recipe import Recipe, printable
from rbs_jax.data.shard_task import Dropped, ShardTask, finished, make_shard
from rbs_jax.data.sources import find_files
from rbs_jax.data.tokens import Tokens, load_tokens, train_tokens
from rbs_jax.errors import UserError
from rbs_jax.remote import is_remote
from rbs_jax.storage import exists, put
from rbs_jax.unfinished import begun, refuse_finished, refuse_inside
from rbs_jax.workers import run

TRAIN = "train:"
LEARNT_DOCUMENTS = 1_000_000
"""A tokenizer is learnt from the first documents alone where there are more."""
READERS = 16
"""Notes read at once."""


def prepare(
    recipe: Recipe,
    out: str,
    strict: bool = False,
    workers: int | None = None,
    beam: str | None = None,
) -> Manifest:
    """Make a corpus of documents; the same call goes on with what an earlier one has begun.

    In order:
      1. find the files, and cut them into parts and the fixed list of shards;
      2. load or learn the tokenizer;
      3. look for what repeats other documents or benchmarks, where the recipe asks;
      4. write every shard that is not finished;
      5. describe them in the manifest, and give the corpus its name.
    The corpus is the same whatever the number of workers, or of interruptions.

    Args:
      recipe: sources, tokenizer, filters, blocks.
      out: the corpus's folder, a path or a URL; must not exist.
      strict: refuse the first document or file that cannot be read, instead of leaving it out.
      workers: processes; None for one a core.
      beam: options of a Beam pipeline that does the work instead of processes here.

    Raises:
      UserError: a file cannot be read, or no document can, with file, line and field; or
        `out` holds something else.
    """
    out = out.rstrip("/")
    left_out = LeftOut(strict)
    refuse_finished(out)
    refuse_inside(recipe.sources, out)
    parts = list_parts(find_files(recipe.sources), recipe, left_out.broken_file)
    with begun(out, recipe, parts) as folder:
        tokens = _tokenizer(recipe, parts, folder, strict)
        tasks = _tasks(recipe, parts, folder, tokens, strict)
        if recipe.surveys:
            dropped = _survey(tasks, workers, beam)
            tasks = [
                dataclasses.replace(task, dropped=own)
                for task, own in zip(tasks, dropped, strict=True)
            ]
        run(make_shard, tasks, "writing shards", workers, beam)
        manifest = _describe(tasks, parts, tokens, left_out)
    for line in [*left_out.broken, *left_out.named]:
        print(line, file=sys.stderr)
    return manifest


def _tokenizer(recipe: Recipe, parts: Sequence[Part], folder: str, strict: bool) -> Tokens:
    """The tokenizer, kept in the folder: what is learnt once is learnt."""
    if not recipe.tokenizer:
        raise UserError("no tokenizer: give --tokenizer with a file, a folder or train:VOCAB")
    learns = recipe.tokenizer.startswith(TRAIN)
    if exists(f"{folder}/tokenizer.json"):
        kept = load_tokens(folder)
        if not learns and load_tokens(recipe.tokenizer).sha256 != kept.sha256:
            raise UserError(
                f"{folder}: begun with another tokenizer than {recipe.tokenizer} is now; give "
                "another --out or remove it"
            )
        return kept
    tokens = _learn(recipe, parts, strict) if learns else load_tokens(recipe.tokenizer)
    if not is_remote(folder):
        tokens.save(Path(folder))
        return tokens
    with tempfile.TemporaryDirectory() as local:
        tokens.save(Path(local))
        for file in Path(local).iterdir():
            put(file, f"{folder}/{file.name}")
    return tokens


def _learn(recipe: Recipe, parts: Sequence[Part], strict: bool) -> Tokens:
    size = recipe.tokenizer.removeprefix(TRAIN)
    if not size.isdecimal() or len(size) > 8:
        raise UserError(
            f"--tokenizer {recipe.tokenizer}: expected train:VOCAB with a number of ids, as "
            "train:8192"
        )
    unread = LeftOut(strict)  # met again when they are packed
    texts = (document.text for part in parts for document in read_part(part, recipe, unread))
    # In a thread, since the library answers Ctrl-C only when it is done.
    learning = ThreadPoolExecutor(1).submit(
        train_tokens, islice(texts, LEARNT_DOCUMENTS), int(size)
    )
    return learning.result()


def _tasks(
    recipe: Recipe, parts: Sequence[Part], folder: str, tokens: Tokens, strict: bool
) -> list[ShardTask]:
    shards = cut_shards(parts, recipe.shuffle_seed)
    return [
        ShardTask(
            *(index, len(shards), tuple(own), {}, recipe, folder, tokens.sha256, strict),
        )
        for index, own in enumerate(shards)
    ]


def _survey(tasks: Sequence[ShardTask], workers: int | None, beam: str | None) -> list[Dropped]:
    """What to leave out of each shard, found in a pass over all documents."""
    # Here, since most preparations need none of it, and it takes a while to import.
    from rbs_jax.data.benchmarks import NAME, write_runs
    from rbs_jax.data.drops import decide
    from rbs_jax.data.survey import survey_shard

    recipe, work = tasks[0].recipe, tasks[0].work
    if recipe.benchmarks and not exists(f"{work}/{NAME}"):
        write_runs(recipe.benchmarks, work)
    run(survey_shard, tasks, "looking for duplicates and benchmarks", workers, beam)
    return decide(tasks)


def _describe(
    tasks: Sequence[ShardTask], parts: Sequence[Part], tokens: Tokens, left_out: LeftOut
) -> Manifest:
    """Write the manifest and what TFDS reads, from the notes of all shards."""
    recipe, folder = tasks[0].recipe, tasks[0].folder
    files = dict.fromkeys(part.file for part in parts)
    with ThreadPoolExecutor(READERS) as pool:
        notes = list(pool.map(finished, tasks))
    for _, own in notes:
        left_out.add(own)
    describe = functools.partial(
        finish,
        shards=[shard for shard, _ in notes],
        tokens=tokens,
        block_length=recipe.block_length,
        settings=recipe.to_json() | {"files": [printable(file) for file in files]},
        left_out=left_out.counts,
        broken=left_out.broken,
        unreadable=left_out.named,
        overlap=recipe.overlap,
    )
    if not is_remote(folder):
        return describe(Path(folder))
    with tempfile.TemporaryDirectory() as local:
        shards = [Path(local) / shard_name(task.index, task.count) for task in tasks]
        for shard in shards:
            shard.touch()  # TFDS describes no data set without its files
        manifest = describe(Path(local))
        written = sorted(Path(local).iterdir(), key=lambda file: file.name == "manifest.json")
        for file in written:  # the manifest last: with it the corpus is there
            if file not in shards:
                put(file, f"{folder}/{file.name}")
    return manifest
