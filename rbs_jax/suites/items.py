"""What every benchmark is made of: a prompt with right and wrong responses."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rbs_jax.data.answers import responses_of
from rbs_jax.data.sources import Record, checked_text, read_jsonl
from rbs_jax.data.template import Prompt
from rbs_jax.errors import UserError
from rbs_jax.remote import is_remote
from rbs_jax.storage import names_in, open_file

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


def read_records(path: str) -> Iterator[Record]:
    """The rows of a file, or of all files of a folder by name: JSON lines, JSON array, parquet.

    Raises:
      UserError: there is nothing there, or a row cannot be read.
    """
    for file in _files(path):
        if file.endswith(".parquet"):
            yield from _parquet(file)
        elif file.endswith(".json"):
            yield from _array(file)
        else:
            yield from read_jsonl(file)


def _files(path: str) -> list[str]:
    if path.endswith(KINDS):
        return [path]
    if not is_remote(path) and not Path(path).is_dir():
        raise UserError(f"{path}: no such folder, nor a file of kind {', '.join(KINDS)}")
    files = [f"{path.rstrip('/')}/{name}" for name in names_in(path) if name.endswith(KINDS)]
    if not files:
        raise UserError(f"{path}: no {', '.join(KINDS)} file in it")
    return files


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
    return [checked_text(value, f"{record.where}: field {field!r}")]


def id_of(record: Record, field: str = "id") -> str:
    """The row's id, or where the row stands if it has none."""
    value = record.fields.get(field)
    return record.where if value is None else str(value)
