"""Where documents come from: .jsonl, .jsonl.gz and .txt files, folders of them, globs."""

import glob
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from rbs_jax.errors import UserError

Item = TypeVar("Item")
SUFFIXES = (".jsonl", ".jsonl.gz", ".txt")


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
    """The objects of a .jsonl or .jsonl.gz file, one a line; blank lines are skipped.

    Raises:
      UserError: the file is missing or broken, or a line is no JSON object, with its number.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield Record(_parse_object(line, f"{path}:{number}"), f"{path}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read after line {number}: {error}") from error


def _parse_object(line: bytes, where: str) -> dict[str, object]:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 at byte {error.start} of the line") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(fields).__name__}")
    return fields


def read_documents(files: Iterable[Path], text_field: str) -> Iterator[str]:
    """The text of every document: one a line of a .jsonl file, one a .txt file.

    Raises:
      UserError: a file or line cannot be read, or the text field is missing or no string.
    """
    for path in files:
        if path.name.endswith(".txt"):
            yield _read_text(path)
            continue
        for record in read_jsonl(path):
            yield text_of(record, text_field)


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


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


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
