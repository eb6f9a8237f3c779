"""Whatever bytes stand in a source: documents and counts, or a UserError of one line."""

import gzip
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from rbs_jax.data.sources import SUFFIXES
from rbs_jax.errors import UserError
from tests.data.reading import counted, documents

TEXTS = ["one", "zwei ü", "three\nlines\n", "four", "x" * 300]
GOOD = [json.dumps({"id": index, "text": text}).encode() for index, text in enumerate(TEXTS)]
LINES = b"\n".join(GOOD)


def write_valid(path):
    if path.suffix == ".parquet":
        table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
        parquet.write_table(table, path, row_group_size=2)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(LINES, mtime=0))
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.compress(LINES) * 2)
    elif path.suffix == ".array_record":
        writer = ArrayRecordWriter(str(path), "group_size:2")
        for line in GOOD:
            writer.write(line)
        writer.close()
    else:
        path.write_bytes(LINES)


def read(name, content):
    """The documents, the number left out, and whether the file was read to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        texts, left_out = counted(str(path))
        for reason in (*left_out.broken, *left_out.named):
            assert len(reason.splitlines()) == 1
            assert reason.startswith(str(path))
        assert texts or left_out.counts or left_out.broken
        if left_out.broken or left_out.named:
            with pytest.raises(UserError):
                documents(str(path))
        else:
            assert documents(str(path)) == texts
        for text in texts:
            text.encode("utf-8")
        return texts, left_out


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The bytes of a valid file of each kind, by suffix."""
    folder = tmp_path_factory.mktemp("valid")
    for suffix in SUFFIXES:
        write_valid(folder / f"a{suffix}")
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


@settings(max_examples=200)
@given(st.sampled_from(SUFFIXES), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(suffix, content):
    read("a" + suffix, content)


def mutate(whole, kind, place, junk):
    place = int(place * len(whole))
    if kind == "flip":
        hit = whole[place : place + len(junk)]
        flipped = bytes(a ^ b for a, b in zip(hit, junk, strict=False))
        return whole[:place] + flipped + whole[place + len(hit) :]
    if kind == "cut":
        return whole[:place]
    if kind == "drop":
        return whole[:place] + whole[place + len(junk) :]
    return whole[:place] + junk + whole[place:]


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "drop", "insert"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=600)
@given(st.sampled_from(SUFFIXES), MUTATIONS)
def test_damaged_files_are_read_or_refused(valid, suffix, mutations):
    content = valid[suffix]
    for mutation in mutations:
        content = mutate(content, *mutation)
    read("a" + suffix, content)


@settings(max_examples=100)
@given(
    st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst"]),
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=6),
    st.randoms(use_true_random=False),
)
def test_good_lines_around_bad_ones_come_through(suffix, bad, chance):
    lines = GOOD + bad
    order = chance.sample(range(len(lines)), len(lines))
    content = b"\n".join(lines[index] for index in order)
    packed = {".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}.get(suffix, bytes)
    texts, left_out = read("a" + suffix, packed(content))
    assert texts == [TEXTS[index] for index in order if index < len(TEXTS)]
    assert left_out.counts.total() == sum(1 for line in bad if line.strip())
