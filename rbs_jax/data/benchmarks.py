"""The words of benchmark files, in whatever fields they stand."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rbs_jax.data.arrayrecord import Decoder, read_records, record_count
from rbs_jax.data.decontaminate import BenchmarkRuns, texts_of
from rbs_jax.data.sources import find_files, read_jsonl
from rbs_jax.errors import UserError
from rbs_jax.storage import fetched, open_file, put

NAME = "benchmarks.npz"


def write_runs(sources: tuple[str, ...], work: str) -> None:
    """Keep in a folder, for the workers, every run of words of benchmark files.

    Args:
      sources: files, folders or globs, as for documents; every string of a row counts.
      work: the folder, path or URL.

    Raises:
      UserError: a file or a row cannot be read, or there is no text.
    """
    texts = (
        (file, text)
        for file in find_files(sources)
        for value in _values(file)
        for text in texts_of(value)
    )
    runs = BenchmarkRuns.of(texts)
    if not len(runs):
        raise UserError(f"benchmarks {', '.join(sources)}: no text in them")
    with tempfile.TemporaryDirectory(dir=None) as local:
        file = Path(local) / NAME
        names = np.frombuffer(json.dumps(runs.names).encode(), np.uint8)
        np.savez(file, runs=runs.runs, files=runs.files, names=names)
        put(file, f"{work}/{NAME}")


def read_runs(work: str) -> BenchmarkRuns:
    """What `write_runs` has kept.

    Raises:
      OSError: it is not there.
    """
    with fetched(f"{work}/{NAME}") as file, np.load(file) as kept:
        names = tuple(json.loads(kept["names"].tobytes()))
        return BenchmarkRuns(kept["runs"], kept["files"], names)


def _values(file: str) -> Iterator[object]:
    """What stands in each row of a file, of whatever structure.

    Raises:
      UserError: the file or a row cannot be read.
    """
    try:
        if file.endswith(".txt"):
            with open_file(file) as opened:
                yield opened.read().decode("utf-8")
        elif file.endswith(".parquet"):
            with open_file(file) as opened, parquet.ParquetFile(opened) as whole:
                for batch in whole.iter_batches():
                    yield from batch.to_pylist()
        elif ".array_record" in file:
            yield from map(Decoder(file), read_records(file, 0, record_count(file)))
        else:
            for record in read_jsonl(file):
                yield record.fields
    except (OSError, ValueError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read: {said}") from error
