"""Parts of files to documents: fields decoded, filters applied, what is left out counted."""

import dataclasses
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from rbs_jax.data.arrayrecord import Decoder, Raw, read_records, record_count
from rbs_jax.data.lines import Line, read_lines
from rbs_jax.data.parquet import Cells, read_rows
from rbs_jax.data.parts import Part
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.sources import Record, checked_text, parse_object
from rbs_jax.errors import UserError
from rbs_jax.remote import Unreachable
from rbs_jax.storage import open_file

SHOWN = 3
"""Unreadable documents that are named; the rest are counted."""


class Document(NamedTuple):
    """A document with text that the filters keep."""

    row: int
    """Its place among all documents of its part, those left out among them."""
    text: str
    id: str | None
    """What the id field says."""


@dataclasses.dataclass
class LeftOut:
    """What was not taken, and why.

    Attributes:
      strict: whether the first that cannot be read is raised instead.
      counts: documents by reason: unreadable, empty, url, score, short, long and more.
      named: what the first unreadable ones are.
      broken: every file that could not be read, or not to its end, or that holds no document.
    """

    strict: bool = False
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    named: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)

    def unreadable(self, reason: UserError) -> None:
        """Count a document that cannot be read."""
        if self.strict:
            raise reason
        self.counts["unreadable"] += 1
        if len(self.named) < SHOWN:
            self.named.append(str(reason))

    def broken_file(self, reason: UserError) -> None:
        """Note a file that cannot be read, or not to its end, or that holds no document."""
        if self.strict:
            raise reason
        self.broken.append(str(reason))

    def add(self, other: "LeftOut") -> None:
        """Take over what another part left out."""
        self.counts += other.counts
        self.named = [*self.named, *other.named][:SHOWN]
        self.broken += other.broken


def read_part(part: Part, recipe: Recipe, left_out: LeftOut) -> Iterator[Document]:
    """The documents of a part that the recipe's filters keep.

    Raises:
      Unreachable: a bucket does not answer.
      UserError: something cannot be read, if `left_out` is strict.
    """
    keeps = Filter(recipe)
    row = -1
    try:
        for row, decode in enumerate(_rows(part, recipe)):
            try:
                fields = decode()
                text = fields.text(recipe.text_field)
                reason = keeps(text, fields)
                name = fields.name(recipe.id_field)
            except Unreachable:
                raise
            except UserError as error:
                left_out.unreadable(error)
                continue
            if reason is None:
                yield Document(row, text, name)
            else:
                left_out.counts[reason] += 1
    except Unreachable:
        raise
    except UserError as error:
        left_out.broken_file(error)
        return
    if row < 0 and part.whole:
        left_out.broken_file(UserError(f"{part.file}: holds no document"))


class Filter:
    """Why a document is not taken, by the recipe's bounds; None where it is."""

    def __init__(self, recipe: Recipe) -> None:
        """Compiles the url's pattern."""
        self._recipe = recipe
        self._url = None if recipe.url_pattern is None else re.compile(recipe.url_pattern)

    def __call__(self, text: str, fields: "Fields") -> str | None:
        """The reason: empty, short, long, url or score.

        Raises:
          UserError: a field that is asked for is not there, or of another kind.
        """
        recipe = self._recipe
        if not text.strip():
            return "empty"
        if len(text) < recipe.min_characters:
            return "short"
        if len(text) > recipe.max_characters:
            return "long"
        if self._url is not None and not self._url.search(fields.text(recipe.url_field)):
            return "url"
        if recipe.min_score is not None:
            score = fields.value(recipe.score_field)
            if isinstance(score, bool) or not isinstance(score, int | float):
                kind = type(score).__name__
                what = f"{fields.where}: field {recipe.score_field!r}"
                raise UserError(f"{what} is {kind}, not a number")
            if not score >= recipe.min_score:
                return "score"
        return None


class Fields(NamedTuple):
    """What a document's source says of it."""

    values: Mapping[str, object]
    where: str

    def value(self, field: str) -> object:
        """Raises UserError where the field is not there, naming those that are."""
        if field not in self.values:
            there = ", ".join(map(repr, self.values)) or "none"
            raise UserError(f"{self.where}: no field {field!r}; fields here: {there}")
        return self.values[field]

    def text(self, field: str) -> str:
        """Raises UserError where the field is no text."""
        return checked_text(self.value(field), f"{self.where}: field {field!r}")

    def name(self, field: str | None) -> str | None:
        """What the id's field says, as a string."""
        return None if field is None else str(self.value(field))


def _rows(part: Part, recipe: Recipe) -> Iterator[Callable[[], Fields]]:
    """A call for each document, which raises UserError where this one cannot be read.

    Raises:
      UserError: the file cannot be read on from here.
    """
    file = part.file
    if file.endswith(".txt"):
        yield partial(_text_file, _content(file), file, recipe.text_field)
    elif file.endswith(".parquet"):
        stop = part.stop if part.stop is not None else 2**31
        columns = recipe.fields()
        for cells in read_rows(file, columns, part.start, stop):
            yield partial(_cells, cells, columns)
    elif ".array_record" in file.rpartition("/")[2]:
        decoder = Decoder(file)
        stop = part.stop if part.stop is not None else record_count(file)
        for raw in read_records(file, part.start, stop):
            yield partial(_record, raw, decoder)
    else:
        for line in read_lines(file, part.start, part.stop):
            yield partial(_line, line)


def _line(line: Line) -> Fields:
    record: Record = parse_object(line)
    return Fields(record.fields, record.where)


def _record(raw: Raw, decoder: Decoder) -> Fields:
    return Fields(decoder(raw), raw.where)


def _cells(cells: Cells, columns: Mapping[str, str]) -> Fields:
    values = {}
    for what, cell in cells.values.items():
        try:
            values[columns[what]] = cell.as_py()
        except UnicodeDecodeError as error:
            where = f"{cells.where}: field {columns[what]!r}"
            raise UserError(f"{where} is not UTF-8 at byte {error.start}") from error
    return Fields(values, cells.where)


def _content(file: str) -> bytes:
    try:
        with open_file(file) as opened:
            return opened.read()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error


def _text_file(content: bytes, file: str, field: str) -> Fields:
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}") from error
    return Fields({field: text}, file)
