"""The folder of a corpus that is being made, and what a run that goes on finds there.

OUT.partial/unfinished/   of a local corpus; in a bucket OUT/unfinished/, and no manifest.json
    plan.json        the recipe and the sources
    survey-00017.*   what was found in the documents of a shard
    shard-00017.json what a finished shard holds
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rbs_jax.data.corpus import EmptyCorpus
from rbs_jax.data.parts import Part, cut_shards
from rbs_jax.data.recipe import Recipe, printable
from rbs_jax.data.shard_task import WORK
from rbs_jax.data.sources import find_files
from rbs_jax.errors import UserError
from rbs_jax.experiment import differences
from rbs_jax.files import locked, make_folder, refuse_existing, writing
from rbs_jax.remote import is_remote
from rbs_jax.storage import names_in, put_text, read_text, remove, size_of

DONE = re.compile(r"(shard|survey)-\d")
"""What tells in there that something is finished."""
SHOWN = 3
"""Differences from what was begun that are named; the rest are counted."""


def refuse_finished(out: str) -> None:
    """A corpus is never written over something else.

    Raises:
      UserError: there is something.
    """
    if not is_remote(out):
        return refuse_existing(Path(out))
    there = set(names_in(out))
    if "manifest.json" in there or (there and WORK not in there):
        raise UserError(f"{out}: already exists; give another --out or remove it first")
    return None


def refuse_inside(sources: Sequence[str], out: str) -> None:
    """A preparation that goes on would take what it has begun for text.

    Raises:
      UserError: a source is a folder that `out` lies in.
    """
    for source in sources:
        if is_remote(source) or is_remote(out):
            inside = f"{out}/".startswith(f"{source.rstrip('/')}/")
        else:
            inside = Path(source).is_dir() and Path(source).resolve() in Path(out).resolve().parents
        if inside:
            raise UserError(f"{out}: lies in the source {source}; give an --out elsewhere")


@contextmanager
def begun(out: str, recipe: Recipe, parts: Sequence[Part]) -> Iterator[str]:
    """The folder that becomes the corpus: left for the next run if any shard is finished.

    Raises:
      UserError: it holds what another recipe or other files have begun, or another process is
        at work in it.
    """
    folder, plan = out if is_remote(out) else f"{out}.partial", _plan(recipe, parts)
    with writing(folder), _alone(folder):
        before = read_text(f"{folder}/{WORK}/plan.json")
        if before is None:
            if foreign := sorted(set(names_in(folder)) - {WORK}):
                raise UserError(
                    f"{folder}: holds {foreign[0]} and no corpus that was begun; give another --out"
                )
        elif changed := differences(json.loads(before), plan):
            more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            raise UserError(
                f"{folder}: holds a corpus begun with other settings or files "
                f"({'; '.join(changed[:SHOWN])}{more}); give another --out or remove it"
            )
        else:
            print(f"going on in {folder}", flush=True)
        try:
            put_text(json.dumps(plan, indent=2), f"{folder}/{WORK}/plan.json")
            yield folder
        except BaseException as error:
            done = any(map(DONE.match, names_in(f"{folder}/{WORK}")))
            if isinstance(error, EmptyCorpus) or not done:
                remove(folder)
            raise
        if not is_remote(out):
            os.replace(folder, out)
            for path in Path(out).glob("*.partial"):  # what a kill has left
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        remove(f"{out}/{WORK}")


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """No two processes of a machine at work in one local folder; a lock ends with its process.

    Raises:
      UserError: another is at work there.
    """
    if is_remote(folder):
        yield
        return
    work = Path(folder) / WORK
    make_folder(work)
    with locked(work, f"{folder}: another rbs prepare is at work there"):
        yield


def _plan(recipe: Recipe, parts: Sequence[Part]) -> dict[str, Any]:
    """What decides every byte of a corpus, but for its tokenizer, which is kept as it is."""
    sizes: dict[str, int] = {}
    for part in parts:
        name = printable(part.file)
        sizes[name] = sizes.get(name, 0) + part.size
    benchmarks = find_files(recipe.benchmarks)
    shards = json.dumps(cut_shards(parts, recipe.shuffle_seed)).encode("utf-8", "surrogateescape")
    return {
        "recipe": recipe.to_json(),
        "sources": sizes,
        "benchmarks": {printable(file): size_of(file) for file in benchmarks},
        "shards": hashlib.sha256(shards).hexdigest(),
    }
