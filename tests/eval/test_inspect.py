import io
import json
import sys

import pytest

from rbs_jax.cli import main
from rbs_jax.data.manifest import read_manifest
from rbs_jax.eval.inspect import sections
from rbs_jax.eval.page import as_text
from tests.tiny import made_up_documents

GRIDS = ["--split.prefix-length", "12", "--split.suffix-length", "8", "--grid.prefixes", "4"]
HOSTILE = "</pre><script>alert(1)</script> \x1b[2J \u202e é "


def prepare(folder, texts, length=20):
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    out = ["--tokenizer", "train:300", "--block-length", str(length), "--out", "corpus"]
    assert main(["prepare", "text.jsonl", *out]) == 0


@pytest.fixture
def corpus(tmp_path, monkeypatch, capsys):
    """Every text shown is hostile."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, [HOSTILE * 9 + text for text in made_up_documents(20)] + [" "])
    capsys.readouterr()
    return tmp_path / "corpus"


@pytest.fixture
def inspect(capsys):
    def run(*args, status=0):
        assert main(["inspect", "corpus", *args]) == status
        said = capsys.readouterr()
        return said.err if status else said.out

    return run


def test_a_corpus_is_printed_and_written_as_one_page(corpus, inspect):
    said = inspect(*GRIDS, "--out", "out")
    manifest = read_manifest(corpus)
    result = json.loads((corpus.parent / "out" / "result.json").read_text())
    assert result["corpus"] == "corpus"
    assert result["counts"]["documents"] == manifest.document_count == 20
    assert result["counts"]["left_out"]["empty"] == 1
    assert result["sample"]["blocks"] == result["counts"]["blocks"] == manifest.block_count
    assert result["lengths"]["documents_per_block"]["n"] == manifest.block_count
    lengths = result["lengths"]["tokens_per_document"]
    assert lengths["n"] + lengths["cut"] == 20
    assert result["settings"]["split"]["prefix_length"] == 12
    assert len(result["grids"]["pairs"]) == 3
    assert sorted(path.name for path in (corpus.parent / "out").iterdir()) == [
        "report.html",
        "result.json",
    ]
    for piece in (
        "20\n",
        "1 empty",
        f"{manifest.block_count:,} of 20 tokens",
        manifest.fingerprint,
        "text.jsonl",
        "#",
        "grids of 4 prefixes, seed 0; prefixes of 12 tokens (fixed breakpoint), suffixes of",
        "pairs that same_document mask takes out",
        "pair 3, true suffix, word overlap",
        "pair 3, hardest of ",
        "\nout/result.json\nout/report.html\n",
    ):
        assert piece in said or piece in " ".join(said.split()), piece
    assert as_text("corpus corpus", sections(result)) in said


def test_a_hostile_document_reaches_neither_terminal_nor_page(corpus, inspect):
    said = inspect(*GRIDS, "--pairs", "9", "--out", "out")
    page = (corpus.parent / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for text in (said, page):
        assert "\\x1b[2J" in text
        assert not set("\x1b\u202e") & set(text)


def test_of_a_long_text_the_part_at_the_cut_is_shown(corpus, inspect):
    inspect(*GRIDS, "--pairs", "1", "--out", "out")
    result = json.loads((corpus.parent / "out" / "result.json").read_text())
    (pair,) = result["grids"]["pairs"]
    pair["prefix"] = "p" + "q" * 400
    pair["suffix"] = "s" * 400 + "t"
    pair["hardest"] = "h" * 400
    said = as_text("", sections(result))
    assert "| ..." + "q" * 400 + "\n" in said
    assert "| " + "s" * 400 + "...\n" in said
    assert said.endswith("| " + "h" * 400)
    pair["hardest"] = None
    said = as_text("", sections(result))
    assert "pair 1, true suffix" in said
    assert said.endswith("pair 1 has no negative: every other suffix is masked.")


def test_without_out_nothing_is_written(corpus, inspect):
    before = sorted(corpus.parent.rglob("*"))
    assert "Duplicates" in inspect(*GRIDS)
    assert sorted(corpus.parent.rglob("*")) == before


def test_a_corpus_of_one_block_is_looked_at_without_grids(tmp_path, monkeypatch, inspect, capsys):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, ["some words more"], length=4)
    capsys.readouterr()
    manifest = tmp_path / "corpus" / "manifest.json"
    assert json.loads(manifest.read_text())["block_count"] == 1
    prepared = inspect("--split.prefix-length", "2", "--split.suffix-length", "2")
    said = " ".join(prepared.split())
    assert "No grids: corpus: 1 blocks are fewer than the 16 of one batch" in said
    assert "Measured on all blocks." in said
    assert "Blocks are shorter than 50 ids." in said
    said = " ".join(inspect("--out", "out").split())
    assert "No grids: corpus: blocks of 4 ids are shorter than prefix + suffix = 128" in said
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["grids"] == {"masked": None, "pairs": [], "missing": result["grids"]["missing"]}


def test_other_settings_of_the_mask_are_named(corpus, inspect):
    assert "mask would take (it is keep here) out" in inspect(
        *GRIDS, "--grid.same-document", "keep"
    )


def test_a_sample_says_so(corpus, inspect, monkeypatch):
    monkeypatch.setattr("rbs_jax.eval.corpus.MOST_BLOCKS", 5)
    said = " ".join(inspect(*GRIDS).split())
    assert f"5 of {read_manifest(corpus).block_count:,} blocks, in 5 runs evenly spread" in said
    assert "compared within the sample alone" in said


def test_any_terminal_can_say_it(corpus, monkeypatch):
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert main(["inspect", "corpus", *GRIDS, "--pairs", "9"]) == 0
    assert b"\\xe9" in plain.buffer.getvalue()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--pairs", "-1"], "--pairs is -1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", str(2**31)], "--seed is 2147483648"),
        (["--out", "text.jsonl"], "text.jsonl: already exists"),
        (["--out", "corpus"], "corpus: already exists"),
        (["--grid.prefixes", "1"], "grid.prefixes is 1"),
    ],
)
def test_what_cannot_be_done_is_named_in_one_line(corpus, inspect, args, said):
    line = inspect(*args, status=2)
    assert said in line
    assert line.count("\n") == 1


def test_a_folder_in_the_way_is_refused_before_anything_is_read(corpus, capsys):
    assert main(["inspect", "missing", "--out", "text.jsonl"]) == 2
    assert "text.jsonl: already exists" in capsys.readouterr().err
