import gzip
import json
import re

import pytest

from rbs_jax.data.sources import find_files, read_documents, read_jsonl
from rbs_jax.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def documents(*sources, field="text"):
    return list(read_documents(find_files(sources), field))


def says(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}")


def test_each_kind_of_file_gives_its_documents(folder):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "zwei ü"))
    (folder / "a.jsonl").write_text(lines)
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write(lines)
    (folder / "c.txt").write_text("one file,\n\none document\n")
    assert documents("c.txt", "b.jsonl.gz", "a.jsonl") == [
        "one file,\n\none document\n",
        *["one", "zwei ü"] * 2,
    ]


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
    with says("data.csv: cannot read this kind of file, only .jsonl, .jsonl.gz, .txt"):
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
    assert documents("a.jsonl", field="body") == ["one"]


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
