"""Whole preparations: any workers, stopped at any moment, give the same bytes."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rbs_jax.data import parts as parts_module
from rbs_jax.data.manifest import read_manifest
from rbs_jax.data.reader import Corpus
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.shard_task import WORK, make_shard
from rbs_jax.errors import UserError
from rbs_jax.prepare import prepare

ROWS = 400


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts_module, "PART_BYTES", 1000)
    monkeypatch.setattr(parts_module, "SHARD_BYTES", 4000)
    rows = [json.dumps({"text": f"document {n} tells of {n * n} words " * 3}) for n in range(ROWS)]
    (tmp_path / "text.jsonl").write_text("\n".join(rows))
    return tmp_path


def recipe(**changes):
    fields = {"sources": ("text.jsonl",), "tokenizer": "train:300", "block_length": 16}
    return Recipe(**fields | changes)


def content(folder):
    """Every file's bytes, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_corpus_is_whole_and_nothing_else_is_left(folder):
    made = prepare(recipe(), "out")
    assert read_manifest(folder / "out") == made
    assert len(made.shards) > 5
    assert made.document_count == ROWS
    assert sorted(path.name for path in folder.iterdir()) == ["out", "text.jsonl"]
    blocks = Corpus(folder / "out").read(range(made.block_count))
    text = "".join(Corpus(folder / "out").tokens().decode(blocks.tokens.tolist()))
    for number in range(0, ROWS, 50):
        assert f"document {number} tells of" in text


def test_any_number_of_workers_gives_the_same_bytes(folder):
    made = prepare(recipe(shuffle_seed=3), "one", workers=1)
    assert prepare(recipe(shuffle_seed=3), "two", workers=2) == made
    assert content(folder / "two") == content(folder / "one")


def test_a_shuffle_moves_documents_and_loses_none(folder):
    plain, one, two = (
        prepare(recipe(shuffle_seed=seed), f"out{seed}", workers=1) for seed in (None, 1, 2)
    )
    assert len({made.fingerprint for made in (plain, one, two)}) == 3
    assert plain.document_count == one.document_count == two.document_count == ROWS
    total = plain.token_count + plain.dropped_token_count
    assert one.token_count + one.dropped_token_count == total


def test_an_overlap_repeats_the_end_of_a_block(folder):
    made = prepare(recipe(overlap=6), "out", workers=1)
    blocks = Corpus(folder / "out").read(range(5)).tokens
    assert (blocks[1:, :6] == blocks[:-1, -6:]).all()
    plain = prepare(recipe(), "plain", workers=1)
    assert made.block_count > 1.5 * plain.block_count


STOPPED = """
import sys
from rbs_jax.data import parts, shards
from rbs_jax.data.recipe import Recipe
from rbs_jax.prepare import prepare

parts.PART_BYTES, parts.SHARD_BYTES = 1000, 4000
if __name__ == "__main__":
    prepare(Recipe(("text.jsonl",), "train:300", 16), "out", workers=int(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_preparation_goes_on_and_redoes_no_shard(folder, workers, capsys):
    whole = prepare(recipe(), "whole", workers=1)
    (folder / "run.py").write_text(STOPPED)
    command = [sys.executable, "run.py", str(workers)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while len(list((folder / "out.partial" / WORK).glob("shard-*"))) < 3:
            assert process.poll() is None, "it ended first"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.5)  # until workers have ended too
    notes = (folder / "out.partial" / WORK).glob("shard-*")
    before = {note: note.stat().st_mtime_ns for note in notes}
    shards = {path: path.stat().st_mtime_ns for path in folder.glob("out.partial/blocks-*")}
    assert 3 <= len(before) < len(whole.shards)
    done = folder / "out"
    assert not done.exists()
    made = prepare(recipe(), "out", workers=workers)
    assert "going on in out.partial" in capsys.readouterr().out
    assert made == whole
    assert content(done) == content(folder / "whole")
    for path, written in shards.items():
        if folder / "out.partial" / WORK / f"shard-{path.name[-14:-9]}.json" in before:
            assert (done / path.name).stat().st_mtime_ns == written


def begin(**changes):
    """A preparation whose second shard fails; what is finished is left."""
    sources = ("text.jsonl", "broken.jsonl")
    made = recipe(sources=sources, tokenizer="learnt", **changes)
    prepare(made, "out", strict=True, workers=1)


def test_what_another_recipe_or_other_files_have_begun_is_refused_by_name(folder):
    prepare(recipe(), "learnt", workers=1)
    (folder / "broken.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"broken\.jsonl:1: not valid JSON"):
        begin()
    assert not (folder / "out").exists()
    assert len(list((folder / "out.partial" / WORK).iterdir())) > 5
    with pytest.raises(
        UserError, match=r"out\.partial: .* \(recipe.overlap: 0 -> 3\); give another"
    ):
        begin(overlap=3)
    (folder / "broken.jsonl").write_text('{"text": "mended"}\n')
    with pytest.raises(UserError, match=r"out\.partial: .* \(sources\.broken\.jsonl: 2 -> 19; "):
        begin()


def stopped(asked):
    """A preparation of which the first shard alone is finished."""
    made = []

    def once(task):
        if made:
            raise KeyboardInterrupt
        made.append(make_shard(task))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rbs_jax.prepare.make_shard", once)
        with pytest.raises(KeyboardInterrupt):
            prepare(asked, "out", workers=1)


def test_a_tokenizer_that_has_changed_meanwhile_is_refused(folder):
    prepare(recipe(), "one", workers=1)
    prepare(recipe(tokenizer="train:280"), "two", workers=1)
    shutil.copytree("one", "learnt")
    stopped(recipe(tokenizer="learnt"))
    shutil.copy("two/tokenizer.json", "learnt/tokenizer.json")
    with pytest.raises(UserError, match=r"begun with another tokenizer than learnt is now"):
        prepare(recipe(tokenizer="learnt"), "out", workers=1)
    shutil.copy("one/tokenizer.json", "learnt/tokenizer.json")
    made = prepare(recipe(tokenizer="learnt"), "out", workers=1)
    assert made.fingerprint == read_manifest(folder / "one").fingerprint


def test_files_that_have_changed_meanwhile_are_refused_by_name(folder):
    (folder / "bench.jsonl").write_text('{"q": "words of a benchmark"}\n')
    asked = recipe(benchmarks=("bench.jsonl",), tokenizer="train:300")
    stopped(asked)
    with (folder / "bench.jsonl").open("a") as file:
        file.write('{"q": "more"}\n')
    with pytest.raises(UserError, match=r"\(benchmarks\.bench\.jsonl: 30 -> 44\)"):
        prepare(asked, "out", workers=1)
    (folder / "bench.jsonl").write_text('{"q": "words of a benchmark"}\n')
    size = (folder / "text.jsonl").stat().st_size
    with (folder / "text.jsonl").open("a") as file:
        file.write("\n")
    changed = rf"\(sources\.text\.jsonl: {size} -> {size + 1}; shards: "
    with pytest.raises(UserError, match=changed):
        prepare(asked, "out", workers=1)


def test_two_processes_never_work_on_one_corpus(folder):
    work = folder / "out.partial" / WORK
    work.mkdir(parents=True)
    other = os.open(work, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(UserError, match=r"out\.partial: another rbs prepare is at work there"):
            prepare(recipe(), "out", workers=1)
        assert work.exists()
    finally:
        os.close(other)
    assert prepare(recipe(), "out", workers=1).document_count == ROWS


def test_what_else_has_the_name_of_an_unfinished_corpus_is_not_touched(folder):
    (folder / "out.partial").mkdir()
    (folder / "out.partial" / "precious").write_text("mine")
    with pytest.raises(UserError, match="holds precious and no corpus that was begun"):
        prepare(recipe(), "out", workers=1)
    assert (folder / "out.partial" / "precious").read_text() == "mine"


def test_nothing_is_left_where_no_shard_was_finished(folder):
    (folder / "text.jsonl").write_text("{\n")
    with pytest.raises(UserError, match="not valid JSON"):
        prepare(recipe(), "out", strict=True)
    with pytest.raises(UserError, match="no document with text; left out: 1 unreadable; the first"):
        prepare(recipe(), "out")
    assert [path.name for path in folder.iterdir()] == ["text.jsonl"]


def test_a_corpus_that_is_there_is_never_touched(folder):
    prepare(recipe(), "out", workers=1)
    before = content(folder / "out")
    with pytest.raises(UserError, match="out: already exists"):
        prepare(recipe(overlap=1), "out/")
    assert content(folder / "out") == before


@pytest.mark.parametrize(
    ("source", "out"),
    [
        (".", "out"),
        ("texts/", "texts/deep/out/"),
        ("texts", "link/out"),
        ("memory://bucket/texts", "memory://bucket/texts/out"),
        ("memory://bucket/texts/", "memory://bucket/texts/out"),
    ],
)
def test_a_corpus_in_its_own_source_is_refused(folder, source, out):
    (folder / "texts").mkdir()
    (folder / "link").symlink_to("texts")
    (folder / "texts" / "more.jsonl").write_text('{"text": "words"}\n')
    with pytest.raises(UserError, match=f"{out.rstrip('/')}: lies in the source {source};"):
        prepare(recipe(sources=("text.jsonl", source)), out)


def test_a_corpus_may_lie_beside_its_sources(folder):
    (folder / "out.texts").mkdir()
    (folder / "text.jsonl").rename(folder / "out.texts" / "text.jsonl")
    assert prepare(recipe(sources=("out.texts",)), "out", workers=1).document_count == ROWS
    with pytest.raises(UserError, match="memory://bucket/texts: no such file"):  # looked for
        prepare(recipe(sources=("memory://bucket/texts",)), "memory://bucket/texts-out")


def test_files_that_break_off_are_named_and_strict_refuses_them(folder, capsys):
    (folder / "bad.jsonl.gz").write_bytes(b"\x1f\x8b no gzip")
    (folder / "bad.parquet").write_bytes(b"PAR1")
    sources = ("bad.parquet", "text.jsonl", "bad.jsonl.gz")
    made = prepare(recipe(sources=sources), "out", workers=1)
    assert made.document_count == ROWS
    assert [line.split(":")[0] for line in made.broken_files] == ["bad.parquet", "bad.jsonl.gz"]
    assert capsys.readouterr().err.splitlines() == list(made.broken_files)
    for source in sources[::2]:
        with pytest.raises(UserError, match=f"{source}: cannot be read"):
            prepare(recipe(sources=(source,)), "other", strict=True)


def test_the_manifest_keeps_the_recipe(folder):
    asked = recipe(shuffle_seed=1, min_characters=3, url_field="link")
    kept = json.loads(json.dumps(asked.to_json()))
    assert prepare(asked, "out", workers=1).settings == kept | {"files": ["text.jsonl"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": ""}, "no tokenizer: give --tokenizer"),
        ({"tokenizer": "train:many"}, "expected train:VOCAB with a number of ids"),
        ({"tokenizer": "missing"}, "missing: no such tokenizer"),
        ({"sources": ("gone.jsonl",)}, "gone.jsonl: no such file"),
    ],
)
def test_mistakes_leave_nothing(folder, changes, message):
    with pytest.raises(UserError, match=message):
        prepare(recipe(**changes), "out")
    assert os.listdir() == ["text.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": 16}, "overlap is 16, it must be at least 0 and below block_length 16"),
        ({"overlap": -1}, "overlap is -1"),
        ({"block_length": 1}, "block_length is 1"),
        ({"url_pattern": "("}, r"url_pattern '\(': "),
        ({"min_characters": 9, "max_characters": 8}, "min_characters is 9"),
        ({"similarity": 0.0}, "similarity is 0.0"),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        recipe(**changes)
