import gzip
import json
import os
import re

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from rbs_jax.data.documents import LeftOut, read_part
from rbs_jax.data.parts import Part
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.sources import read_jsonl
from rbs_jax.errors import UserError
from tests.data.reading import counted, documents


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_parquet(path, column, name="text", **options):
    parquet.write_table(pa.table({"id": range(len(column)), name: column}), path, **options)


def says(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}")


def test_each_kind_of_file_gives_its_documents(folder):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "zwei ü"))
    (folder / "a.jsonl").write_text(lines)
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write(lines)
    (folder / "c.txt").write_text("one file,\n\none document\n")
    (folder / "d.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    write_parquet(folder / "e.parquet", ["one", "zwei ü"])
    assert documents("c.txt", "b.jsonl.gz", "a.jsonl", "d.jsonl.zst", "e.parquet") == [
        "one file,\n\none document\n",
        *["one", "zwei ü"] * 4,
    ]


def test_a_byte_order_mark_is_no_text(folder):
    (folder / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\n{"text": "two"}\n')
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfthree")
    assert documents("a.jsonl", "b.txt") == ["one", "two", "three"]


def test_folders_are_searched_below_in_order_for_files_we_can_read(folder):
    for name in ("z.txt", "b/deep/a.txt", "b/a.txt", "a.txt", "README.md"):
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_text(name)
    assert documents("in") == ["a.txt", "b/a.txt", "b/deep/a.txt", "z.txt"]


def test_globs_are_expanded_in_order_and_sources_keep_theirs(folder):
    for name in ("a2.txt", "a1.txt", "b.txt", "sub/a3.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    assert documents("b.txt", "a*.txt") == ["b.txt", "a1.txt", "a2.txt"]
    assert documents("**/a*.txt") == ["a1.txt", "a2.txt", "sub/a3.txt"]


def test_a_folder_that_may_not_be_read_is_no_empty_one(folder, monkeypatch):
    (folder / "in" / "locked").mkdir(parents=True)
    (folder / "in" / "a.txt").write_text("one")
    scan = os.scandir

    def locked(path):
        if str(path).endswith("locked"):  # the tests may be root's, who may read all
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    with says("in/locked: cannot be read: Permission denied"):
        counted("in")


def test_a_file_of_two_names_is_read_once(folder):
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_text("one")
    (folder / "in" / "loop").symlink_to(folder / "in")
    (folder / "b.txt").symlink_to(folder / "in" / "a.txt")
    assert documents("b.txt", "in/**/*.txt", "in") == ["one"]


def test_blank_lines_are_skipped_but_counted(folder):
    (folder / "a.jsonl").write_text('\n{"text": "one"}\n  \n{"text": "two"}')
    assert [record.where for record in read_jsonl(folder / "a.jsonl")] == [
        f"{folder}/a.jsonl:2",
        f"{folder}/a.jsonl:4",
    ]


@pytest.mark.parametrize("source", ["missing.jsonl", "missing/*.txt", "empty"])
def test_a_source_that_names_nothing_is_refused(folder, source):
    (folder / "empty").mkdir()
    with says(f"{source}: no such file"):
        documents(source)


@pytest.mark.parametrize("source", ["data.csv", "*.csv"])
def test_a_kind_we_cannot_read_is_refused(folder, source):
    (folder / "data.csv").write_text("text\none\n")
    with says("data.csv: cannot read this kind of file, only .jsonl, .jsonl.gz, .jsonl.zst"):
        documents(source)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "one"', "a.jsonl:2: not valid JSON: "),
        (b'{"text": ' + b"[" * 100_000, "a.jsonl:2: not valid JSON: "),
        (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "a.jsonl:2: not valid JSON: "),
        (b'["one"]', "a.jsonl:2: expected a JSON object, found list"),
        (b'{"text": "\xff"}', "a.jsonl:2: not UTF-8 at byte 10 of the line"),
        (b'{"body": "x", "id": 3}', "a.jsonl:2: no field 'text'; fields here: 'body', 'id'"),
        (b"{}", "a.jsonl:2: no field 'text'; fields here: none"),
        (b'{"text": 3}', "a.jsonl:2: field 'text' is int, not a string"),
        (b'{"text": null}', "a.jsonl:2: field 'text' is NoneType, not a string"),
        (b'{"text": "\\ud800"}', "a.jsonl:2: field 'text' holds a lone surrogate"),
    ],
    ids=lambda value: value[:24],
)
def test_a_bad_line_is_named_by_file_and_number(folder, line, message):
    (folder / "a.jsonl").write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with says(message):
        documents("a.jsonl")


def test_the_text_field_can_have_another_name(folder):
    (folder / "a.jsonl").write_text('{"text": 1, "body": "one"}\n')
    assert documents("a.jsonl", text_field="body") == ["one"]


def test_a_text_file_that_is_not_utf8_is_refused(folder):
    (folder / "a.txt").write_bytes(b"abc\xff")
    with says("a.txt: not UTF-8 at byte 3"):
        documents("a.txt")


def test_gzip_cut_short_is_refused(folder):
    whole = gzip.compress(b'{"text": "one"}\n' * 1000)
    (folder / "a.jsonl.gz").write_bytes(whole[:-8])
    with says("a.jsonl.gz: cannot be read after line 1000: "):
        documents("a.jsonl.gz")


def test_gzip_in_name_only_is_refused(folder):
    (folder / "a.jsonl.gz").write_bytes(b'{"text": "one"}\n')
    with says("a.jsonl.gz: cannot be read after line 0: "):
        documents("a.jsonl.gz")


# zstd


LINES = b'{"text": "one"}\n' * 1000


def test_zstd_frames_follow_each_other(folder, monkeypatch):
    monkeypatch.setattr("rbs_jax.data.lines.CHUNK", 7)  # frames begin and end inside chunks
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    half = len(LINES) // 2 + 3  # a line runs over two frames
    frames = [zstandard.compress(LINES[:half]), skippable, zstandard.compress(LINES[half:])]
    (folder / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert documents("a.jsonl.zst") == ["one"] * 1000


def test_a_zstd_window_of_any_size_is_read(folder):
    wide = zstandard.ZstdCompressionParameters(window_log=29, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    (folder / "a.jsonl.zst").write_bytes(compressor.compress(LINES) + compressor.flush())
    assert documents("a.jsonl.zst") == ["one"] * 1000


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-3], "cannot be read after line "),
        (lambda whole: whole + whole[:9], "cannot be read after line 1000: the file ends inside"),
        (lambda _: LINES, "cannot be read after line 0: "),
        (lambda whole: whole + b"more", "cannot be read after line 1000: "),
    ],
    ids=["cut", "second frame cut", "in name only", "more behind"],
)
def test_a_broken_zstd_file_is_refused(folder, damage, message):
    (folder / "a.jsonl.zst").write_bytes(damage(zstandard.compress(LINES)))
    with says(f"a.jsonl.zst: {message}"):
        documents("a.jsonl.zst")


# parquet


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["one", "zwei ü"]),
        pa.array(["one", "zwei ü"], pa.large_string()),
        pa.array(["one", "zwei ü"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_every_kind_of_string_are_read(folder, column):
    write_parquet(folder / "a.parquet", column)
    assert documents("a.parquet") == ["one", "zwei ü"]


def test_row_groups_are_read_one_after_the_other(folder, monkeypatch):
    monkeypatch.setattr("rbs_jax.data.parquet.ROWS", 4)
    texts = [f"row {index}" for index in range(50)]
    write_parquet(folder / "a.parquet", texts, row_group_size=7)
    assert documents("a.parquet") == texts


def test_a_large_row_group_is_never_held_whole(folder):
    texts = [f"{index:05d}" + "x" * 10_000 for index in range(4000)]
    write_parquet(folder / "a.parquet", texts, use_dictionary=False, compression="none")
    before = pa.total_allocated_bytes()
    most = 0
    part = Part("a.parquet", 0, None, 0)
    for _ in read_part(part, Recipe(), LeftOut()):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 15_000_000  # of 40 million


def test_only_the_text_column_is_read(folder):
    write_parquet(folder / "a.parquet", ["one"] * 1000, use_dictionary=False, compression="none")
    whole = bytearray((folder / "a.parquet").read_bytes())
    column = parquet.ParquetFile(folder / "a.parquet").metadata.row_group(0).column(0)
    start, size = column.data_page_offset, column.total_compressed_size
    whole[start : start + size] = b"\xff" * size
    (folder / "a.parquet").write_bytes(whole)
    assert documents("a.parquet") == ["one"] * 1000


@pytest.mark.parametrize(
    ("column", "field", "message"),
    [
        (["one"], "body", "no column 'body'; columns here: 'id', 'text'"),
        ([3], "text", "column 'text' is int64, not a string"),
        ([b"one"], "text", "column 'text' is binary, not a string"),
        ([["one"]], "text", "column 'text' is list<element: string>, not a string"),
    ],
)
def test_a_parquet_file_without_a_text_column_is_refused(folder, column, field, message):
    write_parquet(folder / "a.parquet", column)
    with says(f"a.parquet: {message}"):
        documents("a.parquet", text_field=field)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda _: b"text\none\n",
        lambda whole: whole[:4] + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :],
    ],
    ids=["cut", "in name only", "row group"],
)
def test_a_broken_parquet_file_is_refused(folder, damage):
    write_parquet(folder / "a.parquet", [f"row {index}" for index in range(100)])
    (folder / "a.parquet").write_bytes(damage((folder / "a.parquet").read_bytes()))
    with says("a.parquet: cannot be read"):
        documents("a.parquet")


def test_cells_that_are_no_text_are_left_out(folder):
    not_utf8 = pa.array([b"one", b"tw\xff", None, b"four"]).cast(pa.string(), safe=False)
    write_parquet(folder / "a.parquet", not_utf8)
    texts, left_out = counted("a.parquet")
    assert (texts, left_out.counts) == (["one", "four"], {"unreadable": 2})
    assert left_out.named == [
        "a.parquet:row 2: field 'text' is not UTF-8 at byte 2",
        "a.parquet:row 3: field 'text' is NoneType, not a string",
    ]


# What is left out


def test_good_documents_around_unreadable_ones_come_through(folder):
    bad = ['{"text": 3}', "{", "[]", '{"body": 1}', '{"text": "\\ud800"}', '{"text": null}']
    good = ['{"text": "good"}'] * 7
    lines = [line for pair in zip(good, bad, strict=False) for line in pair]
    (folder / "a.jsonl").write_text("\n".join([*lines, good[-1]]))
    (folder / "b.txt").write_bytes(b"\xff")
    (folder / "c.txt").write_text("whole")
    texts, left_out = counted("a.jsonl", "b.txt", "c.txt")
    assert (texts, left_out.counts) == (["good"] * 7 + ["whole"], {"unreadable": 7})
    assert [line.split(": ")[0] for line in left_out.named] == [
        "a.jsonl:2",
        "a.jsonl:4",
        "a.jsonl:6",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"\n \n"),
        ("a.jsonl.gz", gzip.compress(b"")),
        ("a.jsonl.zst", b""),
        ("a.jsonl.zst", zstandard.compress(b"\n")),
        ("a.parquet", b""),
        ("a.parquet", []),
    ],
)
def test_a_file_without_documents_is_named(folder, name, content):
    if isinstance(content, list):
        write_parquet(folder / name, pa.array(content, pa.string()))
    else:
        (folder / name).write_bytes(content)
    (folder / "good.txt").write_text("good")
    texts, left_out = counted("good.txt", name)
    assert (texts, left_out.counts) == (["good"], {})
    assert left_out.broken == [f"{name}: holds no document"]
    with says(f"{name}: holds no document"):
        documents("good.txt", name)


def test_what_a_broken_file_holds_before_its_fault_is_taken_and_the_file_named(folder):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(LINES)[:-8])
    write_parquet(folder / "c.parquet", ["no text here"], name="body")
    write_parquet(folder / "d.parquet", ["two"])
    texts, left_out = counted("a.jsonl.gz", "c.parquet", "d.parquet")
    assert texts == ["one"] * 1000 + ["two"]
    assert not left_out.counts
    assert [line.split(":")[0] for line in left_out.broken] == ["c.parquet", "a.jsonl.gz"]
