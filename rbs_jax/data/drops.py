"""Which documents to leave out, and the lists that say why.

CORPUS/dropped/REASON.jsonl   a line for each: its file; the byte, row group or record at which its
                              part of the file starts; its row there; its id; and the benchmark, or
                              the document that stays, that is the cause
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from rbs_jax.data.benchmarks import read_runs
from rbs_jax.data.duplicates import first_of_alike, first_of_equals
from rbs_jax.data.recipe import printable
from rbs_jax.data.shard_task import Dropped, ShardTask
from rbs_jax.data.survey import CLEAN, Found, read_found
from rbs_jax.files import writing
from rbs_jax.storage import put_text

FOLDER = "dropped"


def decide(tasks: Sequence[ShardTask]) -> list[Dropped]:
    """Which documents of each shard to leave out, by what workers found; writes the lists.

    A document that shares words with a benchmark goes. Of those left that are equal, or
    alike, the first in the corpus's order stays.

    Args:
      tasks: of all shards, in order, and looked at.

    Raises:
      UserError: a list cannot be written.
    """
    recipe, folder = tasks[0].recipe, tasks[0].folder
    with ExitStack() as stack:
        found = [read_found(task, stack) for task in tasks]
        benchmarks = np.concatenate([own.benchmarks for own in found])
        causes = {"contaminated": benchmarks.astype(np.int64)} if recipe.benchmarks else {}
        left = benchmarks == CLEAN
        if recipe.duplicates != "keep":
            equals = first_of_equals(np.concatenate([own.digests for own in found]))
            causes["duplicate"] = _later(equals, left)
            left &= causes["duplicate"] == CLEAN
        if recipe.duplicates == "near":
            alike = first_of_alike([own.signatures for own in found], recipe.similarity)
            causes["near_duplicate"] = _later(alike, left)
    where = _Where(tasks, found)
    names = read_runs(tasks[0].work).names if recipe.benchmarks else ()
    for reason, cause in causes.items():
        dropped = np.flatnonzero(cause != CLEAN)
        lines = []
        for number, by in zip(dropped.tolist(), cause[dropped].tolist(), strict=True):
            if reason == "contaminated":
                why: dict[str, Any] = {"benchmark": printable(names[by])}
            else:
                why = {"stays": where(by)}
            lines.append(where(number) | why)
        _write(folder, reason, lines)
    return _by_shard(found, causes)


def _later(first: Int64[np.ndarray, " N"], left: Bool[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """For each document of those left the one of its cluster that stays; CLEAN if itself.

    Args:
      first: each one's cluster, by the number of its first document, which may not be left.
      left: those that nothing else has dropped.
    """
    numbers = np.flatnonzero(left)
    _, at, members = np.unique(first[numbers], return_index=True, return_inverse=True)
    stays = numbers[at][members]
    later = np.full(len(first), CLEAN)
    later[numbers] = np.where(stays == numbers, CLEAN, stays)
    return later


def _by_shard(
    found: Sequence[Found], causes: Mapping[str, Int64[np.ndarray, " N"]]
) -> list[Dropped]:
    ends = np.cumsum([0, *(len(own.rows) for own in found)])
    shards: list[Dropped] = []
    for own, start, end in zip(found, ends, ends[1:], strict=False):
        shard: dict[str, dict[int, frozenset[int]]] = {}
        for reason, cause in causes.items():
            gone = cause[start:end] != CLEAN
            shard[reason] = {
                int(place): frozenset(own.rows[gone & (own.places == place)].tolist())
                for place in np.unique(own.places[gone])
            }
        shards.append(shard)
    return shards


class _Where:
    """Says where a document stands, by its number in the corpus."""

    def __init__(self, tasks: Sequence[ShardTask], found: Sequence[Found]) -> None:
        self._tasks, self._found = tasks, found
        self._ends = np.cumsum([len(own.rows) for own in found])

    def __call__(self, number: int) -> dict[str, Any]:
        shard = int(np.searchsorted(self._ends, number, side="right"))
        own = self._found[shard]
        at = number - (self._ends[shard] - len(own.rows))
        part = self._tasks[shard].parts[own.places[at]]
        known = {"file": printable(part.file), "start": part.start, "row": int(own.rows[at])}
        return known if own.ids[at] is None else known | {"id": own.ids[at]}


def _write(folder: str, reason: str, lines: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    with writing(f"{folder}/{FOLDER}"):
        put_text(text, f"{folder}/{FOLDER}/{reason}.jsonl")
