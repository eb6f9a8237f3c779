"""Columns of a parquet file, some row groups at a time and a batch of rows at once."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from rbs_jax.errors import UserError
from rbs_jax.storage import open_file, size_of

ROWS = 256
"""Rows decoded at once: memory holds these and one buffer, not the file or a row group."""
BUFFER = 2**20
"""Of a column that is read at once [bytes]."""


class Cells(NamedTuple):
    """What a row holds in the columns that were asked for, not yet decoded."""

    values: dict[str, pa.Scalar]
    where: str
    """`file:row N`, for messages."""


def row_groups(file: str, columns: Mapping[str, str]) -> list[int]:
    """The size of the text in each row group, of a file that has the columns [bytes].

    A file of 0 bytes has none, as an empty .jsonl file has no lines.

    Raises:
      UserError: the file is missing, cut short or corrupt, or a column is not there or of
        another kind.
    """
    try:
        if size_of(file) == 0:
            return []
        with open_file(file) as opened, parquet.ParquetFile(opened) as whole:
            _check_columns(file, whole.schema_arrow, columns)
            name = _path_of(whole, columns["text"])
            groups = [whole.metadata.row_group(i) for i in range(whole.num_row_groups)]
            return [group.column(name).total_uncompressed_size for group in groups]
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read: {_first_line(error)}") from error


def read_rows(file: str, columns: Mapping[str, str], start: int, stop: int) -> Iterator[Cells]:
    """The rows of some row groups, only these columns of them.

    Args:
      file: its path or URL.
      columns: names of columns, by what they are for.
      start: the first row group.
      stop: the one behind the last.

    Raises:
      UserError: the file is missing, cut short or corrupt.
    """
    row = 0
    try:
        if size_of(file) == 0:
            return
        with (
            open_file(file) as opened,
            parquet.ParquetFile(
                opened, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True
            ) as whole,
        ):
            counts = [whole.metadata.row_group(i).num_rows for i in range(start)]
            row = sum(counts)
            names = list(dict.fromkeys(columns.values()))
            groups = range(start, min(stop, whole.num_row_groups))
            for batch in whole.iter_batches(ROWS, columns=names, row_groups=list(groups)):
                by_purpose = {what: batch.column(name) for what, name in columns.items()}
                for index in range(batch.num_rows):
                    row += 1
                    values = {what: column[index] for what, column in by_purpose.items()}
                    yield Cells(values, f"{file}:row {row}")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read after row {row}: {_first_line(error)}") from error


def _path_of(file: parquet.ParquetFile, column: str) -> int:
    """The number of a top-level column among the leaves that a row group stores."""
    return next(
        index
        for index in range(file.metadata.num_columns)
        if file.schema.column(index).path.split(".")[0] == column
    )


def _check_columns(file: str, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    for what, name in columns.items():
        if schema.names.count(name) != 1:
            there = ", ".join(map(repr, schema.names)) or "none"
            raise UserError(f"{file}: no column {name!r}; columns here: {there}")
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if what in ("text", "url") and not is_string:
            raise UserError(f"{file}: column {name!r} is {kind}, not a string")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
