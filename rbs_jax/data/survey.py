"""The look at a shard's documents before they are packed, by whoever works on it."""

import functools
import json
import tempfile
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt32

from rbs_jax.data.benchmarks import read_runs
from rbs_jax.data.decontaminate import BenchmarkRuns
from rbs_jax.data.documents import LeftOut, read_part
from rbs_jax.data.duplicates import PERMUTATIONS, digest, signature
from rbs_jax.data.shard_task import ShardTask
from rbs_jax.files import writing
from rbs_jax.remote import is_remote
from rbs_jax.storage import exists, fetched, put

CLEAN = -1
"""In place of a benchmark's number."""
SIGNED = np.dtype("<u4")
"""The numbers of a signature in a file."""


class Found(NamedTuple):
    """What is known of the documents of a shard that the filters keep, in order."""

    places: Int32[np.ndarray, " N"]
    """Which of the shard's parts each is in."""
    rows: Int64[np.ndarray, " N"]
    """Where it is in its part."""
    digests: UInt8[np.ndarray, "N 16"]
    benchmarks: Int32[np.ndarray, " N"]
    """The number of the benchmark that it shares words with, or CLEAN."""
    ids: tuple[str | None, ...]
    signatures: UInt32[np.ndarray, "M K"]
    """Of none where near duplicates are not asked for."""


def survey_shard(task: ShardTask) -> None:
    """Look at the documents of a shard, unless an earlier run has.

    Raises:
      UserError: a source or the folder refuses.
    """
    if exists(_note(task)):
        return
    with writing(task.work), tempfile.TemporaryDirectory() as local:
        signatures, note = Path(local) / "signatures", Path(local) / "note.npz"
        with signatures.open("wb") as file:
            np.savez(note, **_look(task, file))
        put(signatures, _signatures(task))
        put(note, _note(task))


def _note(task: ShardTask) -> str:
    return f"{task.work}/survey-{task.index:05d}.npz"


def _signatures(task: ShardTask) -> str:
    """Apart, so that they can be mapped."""
    return f"{task.work}/survey-{task.index:05d}.signatures"


def _look(task: ShardTask, signatures: BinaryIO) -> dict[str, Any]:
    """The arrays of `Found`; signatures, the most of it by far, go to a file at once."""
    recipe = task.recipe
    # Absolute, since a relative name may be another folder's before long.
    work = task.work if is_remote(task.work) else str(Path(task.work).absolute())
    runs = _runs(work) if recipe.benchmarks else BenchmarkRuns.of(())
    numbers = {name: number for number, name in enumerate(runs.names)}
    numbered, digests, ids = array("q"), bytearray(), []
    for place, part in enumerate(task.parts):
        for document in read_part(part, recipe, LeftOut(task.strict)):
            benchmark = numbers.get(runs.shared(document.text) or "", CLEAN)
            numbered.extend((place, document.row, benchmark))
            digests += digest(document.text)
            ids.append(document.id)
            if recipe.duplicates == "near":
                signatures.write(signature(document.text).astype(SIGNED).tobytes())
    places, rows, benchmarks = np.array(numbered, np.int64).reshape(-1, 3).T
    return {
        "places": places.astype(np.int32),
        "rows": rows,
        "digests": np.frombuffer(digests, np.uint8).reshape(-1, 16),
        "benchmarks": benchmarks.astype(np.int32),
        "ids": np.frombuffer(json.dumps(ids).encode(), np.uint8),
    }


@functools.lru_cache(1)
def _runs(work: str) -> BenchmarkRuns:
    """The benchmarks' runs, read once by each process."""
    return read_runs(work)


def read_found(task: ShardTask, stack: ExitStack) -> Found:
    """What was found; signatures stay on disk, for as long as the stack is open.

    Raises:
      OSError: it is not there.
    """
    path = stack.enter_context(fetched(_signatures(task)))
    empty = path.stat().st_size == 0  # which cannot be mapped
    signatures = np.empty(0, SIGNED) if empty else np.memmap(path, SIGNED, "r")
    with fetched(_note(task)) as file, np.load(file) as kept:
        arrays = {name: kept[name] for name in kept.files}
    ids = tuple(json.loads(arrays.pop("ids").tobytes()))
    return Found(**arrays, ids=ids, signatures=signatures.reshape(-1, PERMUTATIONS))
