"""What every benchmark is made of: a prompt with right and wrong responses."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rbs_jax.data.answers import responses_of
from rbs_jax.data.sources import Record, checked_text, read_jsonl, text_of
from rbs_jax.data.template import Prompt
from rbs_jax.errors import UserError
from rbs_jax.remote import filesystem, is_remote, retried
from rbs_jax.statistics.within import Prompts
from rbs_jax.storage import open_file

KINDS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")

Scores = Sequence[np.ndarray]
"""For each item the scores of its responses; NaN for one that has none."""


class Item(NamedTuple):
    """One row of a benchmark."""

    id: str
    """The publisher's, where there is one; else where the row stands."""
    subset: str
    prompt: Prompt
    responses: list[str]
    """The right ones first."""
    right: int
    """How many are right."""
    pairs: Sequence[tuple[int, int]] = ()
    """Places of a right and a wrong response, where the publisher names those to compare."""


def unit_of(prompt: Prompt) -> str:
    """What the bootstrap draws: a prompt, whatever rows it stands in."""
    return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt)


def prompts_of(items: Sequence[Item]) -> Prompts:
    """The prompts of all responses, item by item; rows with the same prompt are of one prompt.

    They stand beside `np.concatenate(scores)` of the same items. Of no items there are none.
    """
    numbers: dict[str, int] = {}
    of_items = [numbers.setdefault(unit_of(item.prompt), len(numbers)) for item in items]
    return np.repeat(np.array(of_items, int), [len(item.responses) for item in items])


def read_records(path: str, leave_out: str | None = None) -> Iterator[Record]:
    """The rows of a file, or of all files below a folder by name: JSON lines, JSON array, parquet.

    Args:
      path: of the file or folder, or its URL.
      leave_out: pattern of names below a folder that are not read, where there are others.

    Raises:
      UserError: there is nothing there, or a row cannot be read.
    """
    empty = True
    for file in _files(path, leave_out):
        for record in _records(file):
            empty = False
            yield record
    if empty:
        raise UserError(f"{path}: holds no row")


def _records(file: str) -> Iterator[Record]:
    if file.endswith(".parquet"):
        return _parquet(file)
    return _array(file) if file.endswith(".json") else read_jsonl(file)


def _files(path: str, leave_out: str | None) -> list[str]:
    if path.endswith(KINDS):
        return [path]
    if not is_remote(path) and not Path(path).is_dir():
        raise UserError(f"{path}: no such folder, nor a file of kind {', '.join(KINDS)}")
    below = [name for name in _below(path) if name.endswith(KINDS)]
    if not below:
        raise UserError(f"{path}: no {', '.join(KINDS)} file below it")
    kept = [name for name in below if leave_out is None or not re.search(leave_out, name)]
    return [f"{path.rstrip('/')}/{name}" for name in kept or below]


def _below(folder: str) -> list[str]:
    """The names of all files below a folder, from there."""
    if not is_remote(folder):
        found = (file for file in Path(folder).rglob("*") if file.is_file())
        return sorted(file.relative_to(folder).as_posix() for file in found)
    fs, name = filesystem(folder)
    try:
        files = retried(folder, lambda: fs.find(name))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}") from error
    return sorted(file.removeprefix(name).lstrip("/") for file in files)


def _array(file: str) -> Iterator[Record]:
    try:
        with open_file(file) as opened:
            rows = json.loads(opened.read().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list):
        raise UserError(f"{file}: expected a JSON array of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file}:row {number}: expected an object, found {type(row).__name__}")
        yield Record(row, f"{file}:row {number}")


def _parquet(file: str) -> Iterator[Record]:
    number = 0
    try:
        with open_file(file) as opened, parquet.ParquetFile(opened) as whole:
            for batch in whole.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, f"{file}:row {number}")
    except (OSError, ValueError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read after row {number}: {said}") from error


def texts_of(record: Record, field: str) -> list[str]:
    """A string or a list of one or more.

    Raises:
      UserError: it is neither, naming the line and the field.
    """
    value = record.fields.get(field)
    if isinstance(value, list):
        texts = responses_of(record, field)
        if not texts:
            raise UserError(f"{record.where}: field {field!r} is an empty list")
        return texts
    return [text_of(record, field)]


def id_of(record: Record, field: str = "id") -> str:
    """The row's id, or where the row stands if it has none.

    Raises:
      UserError: it holds a lone surrogate.
    """
    value = record.fields.get(field)
    what = f"{record.where}: field {field!r}"
    return record.where if value is None else checked_text(str(value), what)


def one_of(record: Record, field: str, allowed: Collection[str]) -> str:
    """A field that is one of some words.

    Raises:
      UserError: it is none of them, naming the line and the field.
    """
    value = text_of(record, field)
    if value not in allowed:
        words = ", ".join(allowed)
        raise UserError(f"{record.where}: field {field!r} is {value!r}, none of {words}")
    return value
