"""Where documents come from: .jsonl, .parquet and .txt files, folders of them, globs."""

import glob
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa

from rbs_jax.data.lines import Line, read_lines
from rbs_jax.data.parquet import read_column
from rbs_jax.errors import UserError

Item = TypeVar("Item")
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".txt")
SHOWN = 3
"""Unreadable documents that are named; the rest are counted."""


class Record(NamedTuple):
    """One line of a .jsonl file, and where it stands."""

    fields: dict[str, object]
    where: str
    """`file:line`, for messages."""


def find_files(sources: Iterable[str]) -> list[Path]:
    """The files that sources name: files as they are, folders searched below, globs expanded.

    Order follows the sources; inside a folder or glob, files are sorted. A file
    named twice is read once.

    Raises:
      UserError: a source names nothing, or a file of a kind we cannot read.
    """
    files: list[Path] = []
    for source in sources:
        if not source:
            raise UserError("an empty name stands among the sources")
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
        elif path.is_file():
            found = [path]
        else:
            found = sorted(Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file())
        if not found:
            raise UserError(f"{source}: no such file, and no {', '.join(SUFFIXES)} file below it")
        for file in found:
            if not file.name.endswith(SUFFIXES):
                raise UserError(
                    f"{file}: cannot read this kind of file, only {', '.join(SUFFIXES)}"
                )
        files += found
    return list(dict.fromkeys(files))


def read_jsonl(path: Path) -> Iterator[Record]:
    """The objects of a .jsonl file, plain or compressed, one a line; blank lines are skipped.

    Raises:
      UserError: the file is missing or broken, or a line is no JSON object, with its number.
    """
    return map(_parse_object, read_lines(path))


def _parse_object(line: Line) -> Record:
    try:
        fields = json.loads(line.content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{line.where}: not UTF-8 at byte {error.start} of the line") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{line.where}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{line.where}: expected a JSON object, found {type(fields).__name__}")
    return Record(fields, line.where)


def refuse(reason: UserError) -> None:
    """What becomes of an unreadable document where nothing may be left out: the error is raised."""
    raise reason


class Unreadable:
    """Counts the documents that cannot be read and are left out; the first few go to stderr."""

    def __init__(self, shown: int = SHOWN) -> None:
        """Start at none; the first `shown` of them are printed."""
        self.count = 0
        self.first: UserError | None = None
        self._shown = shown

    def leave_out(self, reason: UserError) -> None:
        """Count one document."""
        self.count += 1
        self.first = self.first or reason
        if self.count <= self._shown:
            print(reason, file=sys.stderr)


def read_documents(
    files: Iterable[Path], text_field: str, leave_out: Callable[[UserError], None] = refuse
) -> Iterator[str]:
    """The text of every document: one a line of a .jsonl, a row of a .parquet, one a .txt file.

    Args:
      files: what `find_files` found.
      text_field: the field or column that holds the text.
      leave_out: told of every document that cannot be read, and of every file without any.

    Raises:
      UserError: a whole file cannot be read: an unknown number of documents would be lost.
    """
    for path in files:
        nothing = True
        for read in _documents_of(path, text_field):
            nothing = False
            try:
                text = read()
            except UserError as reason:
                leave_out(reason)
            else:
                yield text
        if nothing:
            leave_out(UserError(f"{path}: holds no document"))


def _documents_of(path: Path, field: str) -> Iterator[Callable[[], str]]:
    """A call for each document, which raises UserError where this one cannot be read.

    Raises:
      UserError: the file cannot be read on from here.
    """
    if path.name.endswith(".txt"):
        yield partial(_read_text, _content(path), path)
    elif path.name.endswith(".parquet"):
        for row, value in enumerate(read_column(path, field), start=1):
            yield partial(_text_of_cell, value, f"{path}:row {row}: field {field!r}")
    else:
        for line in read_lines(path):
            yield partial(_text_of_line, line, field)


def _text_of_line(line: Line, field: str) -> str:
    return text_of(_parse_object(line), field)


def _text_of_cell(cell: pa.Scalar, what: str) -> str:
    try:
        return checked_text(cell.as_py(), what)
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 at byte {error.start}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _read_text(content: bytes, path: Path) -> str:
    try:
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error


def text_of(record: Record, field: str) -> str:
    """A field of a record that must be there and be a string without lone surrogates.

    Raises:
      UserError: it is not, naming the line, the field and the fields that are there.
    """
    if field not in record.fields:
        there = ", ".join(map(repr, record.fields)) or "none"
        raise UserError(f"{record.where}: no field {field!r}; fields here: {there}")
    return checked_text(record.fields[field], f"{record.where}: field {field!r}")


def checked_text(value: object, what: str) -> str:
    """The value, if it is a string that UTF-8 can hold.

    Raises:
      UserError: it is not, naming `what` it is.
    """
    if not isinstance(value, str):
        raise UserError(f"{what} is {type(value).__name__}, not a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{what} holds a lone surrogate") from error
    return value


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last of what remains."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
