"""One text column of a parquet file, a batch of rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from rbs_jax.errors import UserError

ROWS = 256
"""Rows decoded at once: memory holds these and one buffer, not the file or a row group."""
BUFFER = 2**20
"""Of a column that is read at once [bytes]."""


def read_column(path: Path, field: str) -> Iterator[pa.Scalar]:
    """The values of a string column, row by row, not yet decoded.

    A file of 0 bytes has no rows, as an empty .jsonl file has no lines.

    Raises:
      UserError: the file is missing, cut short or corrupt, or has no such column of strings.
    """
    row = 0
    try:
        if path.stat().st_size == 0:
            return
        with parquet.ParquetFile(
            path, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True
        ) as file:
            _check_column(path, file.schema_arrow, field)
            for batch in file.iter_batches(ROWS, columns=[field]):
                for value in batch.column(0):
                    yield value
                    row += 1
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read after row {row}: {said}") from error


def _check_column(path: Path, schema: pa.Schema, field: str) -> None:
    if schema.names.count(field) != 1:
        there = ", ".join(map(repr, schema.names)) or "none"
        raise UserError(f"{path}: no column {field!r}; columns here: {there}")
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"{path}: column {field!r} is {kind}, not a string")
