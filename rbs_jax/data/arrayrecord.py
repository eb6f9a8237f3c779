"""Records of ArrayRecord files: JSON objects, or the examples of a TFDS data set."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from rbs_jax.errors import UserError
from rbs_jax.remote import is_remote
from rbs_jax.storage import download, exists, fetched

FEATURES = ("features.json", "dataset_info.json")
"""What lies beside the files of a TFDS data set and says what their records are."""
RECORDS = 256
"""Records read at once."""


class Raw(NamedTuple):
    """A record, not yet decoded, and where it stands."""

    content: bytes
    where: str
    """`file:record N`, for messages."""


def record_count(file: str) -> int:
    """How many records a file holds.

    Raises:
      UserError: it is missing or broken.
    """
    with _opened(file) as reader:
        return int(reader.num_records())


def read_records(file: str, start: int, stop: int) -> Iterator[Raw]:
    """The records from `start` to `stop` - 1 of a file.

    Raises:
      UserError: the file is missing or broken.
    """
    with _opened(file) as reader:
        for first in range(start, stop, RECORDS):
            last = min(first + RECORDS, stop)
            try:
                contents = reader.read(first, last)
            except (RuntimeError, IndexError, ValueError) as error:
                said = str(error).splitlines()[0] if str(error) else "broken"
                where = f"{file}: cannot be read after record {first}"
                raise UserError(f"{where}: {said}") from error
            for number, content in enumerate(contents, start=first + 1):
                yield Raw(content, f"{file}:record {number}")


class Decoder:
    """Records of a file to their fields."""

    def __init__(self, file: str) -> None:
        """Raises UserError where what lies beside the file describes no records."""
        folder = file.rpartition("/")[0] or "."
        self._features = None
        if exists(f"{folder}/{FEATURES[0]}"):
            self._features = _features(folder)

    def __call__(self, raw: Raw) -> dict[str, Any]:
        """The fields of a record.

        Raises:
          UserError: it is no such example, or no JSON object.
        """
        try:
            if self._features is not None:
                example = self._features.deserialize_example_np(raw.content)
                return {name: _plain(value) for name, value in example.items()}
            fields = json.loads(raw.content.decode("utf-8"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{raw.where}: {' '.join(str(error).split())}") from error
        if not isinstance(fields, dict):
            found = type(fields).__name__
            raise UserError(f"{raw.where}: expected a JSON object, found {found}")
        return fields


def _plain(value: Any) -> Any:
    """TFDS gives bytes for text and arrays of one for numbers."""
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _features(folder: str) -> Any:
    if not is_remote(folder):
        return _info(folder)
    with tempfile.TemporaryDirectory() as local:
        for name in FEATURES:
            download(f"{folder}/{name}", Path(local) / name)
        return _info(local)


def _info(folder: str) -> Any:
    try:
        return tfds.builder_from_directory(folder).info.features
    except Exception as error:  # the library's own, of many kinds
        said = " ".join(str(error).split())
        raise UserError(f"{folder}: not a TFDS data set that can be read: {said}") from error


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    with fetched(file) as path:  # the library reads local files alone
        if not path.is_file():
            raise UserError(f"{file}: no such file")
        reader = ArrayRecordReader(str(path))
        if not reader.ok():  # and close() would raise
            raise UserError(f"{file}: not an ArrayRecord file, or cut short")
        try:
            yield reader
        finally:
            reader.close()
