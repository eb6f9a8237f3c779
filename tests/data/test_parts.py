import gzip
import json

import pyarrow as pa
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from rbs_jax.data import parts as parts_module
from rbs_jax.data.documents import LeftOut, read_part
from rbs_jax.data.parts import Part, cut_shards, list_parts
from rbs_jax.data.recipe import Recipe
from rbs_jax.errors import UserError

TEXTS = [f"text {n} " * (n % 7 + 1) for n in range(60)]


def fails(reason):
    raise reason


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(parts_module, "PART_BYTES", 100)


@pytest.fixture
def files(tmp_path):
    """The same texts in a file of each kind, by kind."""
    lines = "".join(json.dumps({"text": text}) + "\n\n" for text in TEXTS)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet", row_group_size=4)
    writer = ArrayRecordWriter(str(tmp_path / "a.array_record"), "group_size:1")
    for text in TEXTS:
        writer.write(json.dumps({"text": text}).encode())
    writer.close()
    return {kind: str(tmp_path / f"a.{kind}") for kind in ("jsonl", "parquet", "array_record")}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "array_record"])
def test_parts_hold_every_document_once_and_in_order(files, kind, small):
    parts = list_parts([files[kind]], Recipe(), fails)
    assert len(parts) > 5
    assert parts[0].start == 0
    assert parts[-1].stop is None
    assert not any(part.whole for part in parts)
    read = [list(read_part(part, Recipe(), LeftOut(True))) for part in parts]
    assert [document.text for own in read for document in own] == TEXTS
    for own in read:
        assert [document.row for document in own] == list(range(len(own)))


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"x")), max_size=20),
       st.integers(1, 60), st.booleans())  # fmt: skip
def test_any_lines_are_in_one_part_each(tmp_path_factory, lines, size, closed):
    from rbs_jax.data.lines import read_lines

    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if closed else b""))
    whole = [line.content.rstrip(b"\n") for line in read_lines(str(path))]
    total = path.stat().st_size
    cut = [
        line.content.rstrip(b"\n")
        for start in range(0, max(total, 1), size)
        for line in read_lines(str(path), start, start + size)
    ]
    assert cut == whole


def test_a_file_that_cannot_be_cut_is_one_part(tmp_path, files, small):
    path = tmp_path / "a.jsonl.gz"
    assert list_parts([str(path)], Recipe(), fails) == [
        Part(str(path), 0, None, 4 * path.stat().st_size)
    ]


def test_a_bad_line_behind_a_part_s_start_can_be_found(tmp_path, small):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine fine"}\n' * 9 + "{\n" + '{"text": "fine"}\n')
    left_out = LeftOut()
    for part in list_parts([str(path)], Recipe(), fails):
        list(read_part(part, Recipe(), left_out))
    (said,) = left_out.named
    line, start = said.split(":")[1].split(" from byte ")
    behind = path.read_bytes()[int(start) :].split(b"\n", 1)[1]  # the line cut is another part's
    assert behind.split(b"\n")[int(line.removeprefix("line ")) - 1] == b"{"


def test_files_that_cannot_be_opened_are_told_and_others_go_on(tmp_path, files):
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
    told = []
    found = list_parts(
        [str(tmp_path / "b.parquet"), str(tmp_path / "gone.jsonl"), files["jsonl"]],
        Recipe(),
        told.append,
    )
    assert [part.file for part in found] == [files["jsonl"]]
    assert [str(reason).split(": ")[1] for reason in told] == ["cannot be read"] * 2
    with pytest.raises(UserError, match=r"b\.parquet: cannot be read"):
        list_parts([str(tmp_path / "b.parquet")], Recipe(), fails)


@given(st.lists(st.integers(0, 50), max_size=40), st.sampled_from([None, 0, 1]))
def test_shards_hold_every_part_once(sizes, seed):
    parts = [Part(str(n), 0, None, size) for n, size in enumerate(sizes)]
    original = parts_module.SHARD_BYTES
    parts_module.SHARD_BYTES = 60
    try:
        shards = cut_shards(parts, seed)
        assert shards == cut_shards(parts, seed)
    finally:
        parts_module.SHARD_BYTES = original
    flat = [part for shard in shards for part in shard]
    if seed is None:
        assert flat == parts
    assert sorted(flat) == sorted(parts)
    for shard in shards[:-1]:
        assert sum(part.size for part in shard) >= 60
        assert sum(part.size for part in shard[:-1]) < 60


@pytest.mark.parametrize(
    ("megabytes", "count", "shards"),
    [(4, 3, 3), (4, 25, 25), (4, 128, 128), (4, 256, 128), (4, 2048, 256), (0, 50, 1)],
)
def test_a_small_corpus_has_many_shards_and_a_large_one_no_small_ones(megabytes, count, shards):
    parts = [Part(str(n), 0, None, megabytes * 2**20) for n in range(count)]
    assert len(cut_shards(parts, None)) == shards


def test_another_seed_is_another_order():
    parts = [Part(str(n), 0, None, 1) for n in range(100)]
    assert cut_shards(parts, 0) != cut_shards(parts, 1) != cut_shards(parts, None)
