"""Where text comes from: files of many kinds, folders of them, globs, local or in a bucket."""

import glob
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from rbs_jax.data.lines import LONGEST, Line, read_lines
from rbs_jax.errors import UserError
from rbs_jax.remote import filesystem, is_remote, retried

Item = TypeVar("Item")
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".txt", ".array_record")


class Record(NamedTuple):
    """One line of a .jsonl file, and where it stands."""

    fields: dict[str, object]
    where: str
    """`file:line`, for messages."""


def find_files(sources: Iterable[str]) -> list[str]:
    """The files that sources name: files as they are, folders searched below, globs expanded.

    Order follows the sources; inside a folder or glob, files are sorted. A file
    named twice is read once.

    Args:
      sources: paths, or URLs of buckets.

    Raises:
      UserError: a source names nothing, or a file of a kind we cannot read.
    """
    files: list[str] = []
    for source in sources:
        if not source:
            raise UserError("an empty name stands among the sources")
        found = _find_remote(source) if is_remote(source) else _find_local(source)
        if not found:
            raise UserError(f"{source}: no such file, and no {', '.join(SUFFIXES)} file below it")
        for file in found:
            if not can_read(file):
                raise UserError(
                    f"{file}: cannot read this kind of file, only {', '.join(SUFFIXES)}"
                )
        files += found
    once: dict[str, str] = {}
    for file in files:
        once.setdefault(_identity(file), file)
    return list(once.values())


def _identity(file: str) -> str:
    """What two names of one file have in common: a link's target."""
    return file if is_remote(file) else os.path.realpath(file)


def can_read(file: str) -> bool:
    """Whether a file's name is of a kind that is read; TFDS numbers its shards behind the kind."""
    name = file.rpartition("/")[2]
    return name.endswith(SUFFIXES) or ".array_record-" in name


def _find_local(source: str) -> list[str]:
    path = Path(source)
    if path.is_dir():
        walk = os.walk(path, onerror=_refuse)
        below = [Path(at, name) for at, _, names in walk for name in names if can_read(name)]
        return [str(file) for file in sorted(below) if file.is_file()]
    if path.is_file():
        return [str(path)]
    return sorted(p for p in glob.glob(source, recursive=True) if Path(p).is_file())


def _refuse(error: OSError) -> None:
    """Else a folder that may not be read would be an empty one."""
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _find_remote(source: str) -> list[str]:
    fs, name = filesystem(source)

    def find() -> list[str]:
        if glob.has_magic(name):
            return [file for file in fs.glob(name) if not fs.isdir(file)]
        if fs.isdir(name):
            return [file for file in fs.find(name) if can_read(file)]
        return [name] if fs.exists(name) else []

    try:
        found = retried(source, find)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{source}: cannot be listed: {error.strerror}") from error
    return sorted(fs.unstrip_protocol(file) for file in found)


def read_jsonl(path: Path | str) -> Iterator[Record]:
    """The objects of a .jsonl file, plain or compressed, one a line; blank lines are skipped.

    Raises:
      UserError: the file is missing or broken, or a line is no JSON object, with its number.
    """
    return map(parse_object, read_lines(str(path)))


def parse_object(line: Line) -> Record:
    """The JSON object of a line.

    Raises:
      UserError: it is none, with its number.
    """
    if line.content is None:
        raise UserError(f"{line.where}: longer than the {LONGEST} bytes that a line may have")
    try:
        fields = json.loads(line.content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{line.where}: not UTF-8 at byte {error.start} of the line") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{line.where}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{line.where}: expected a JSON object, found {type(fields).__name__}")
    return Record(fields, line.where)


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
