"""Preparations from and into a bucket, and by a pipeline's workers: the bytes of a local one."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rbs_jax.data import parts as parts_module
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.manifest import read_manifest
from rbs_jax.data.reader import Corpus
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.stream import GridStream
from rbs_jax.errors import UserError
from rbs_jax.prepare import prepare

TEXTS = [f"document {n} tells of {n * n} words " * 3 for n in range(200)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
BEAM = "--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=2"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts_module, "PART_BYTES", 1000)
    monkeypatch.setattr(parts_module, "SHARD_BYTES", 6000)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jsonl").write_text(LINES)
    (tmp_path / "text" / "b.jsonl.gz").write_bytes(gzip.compress(LINES.encode(), mtime=0))
    parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "text" / "c.parquet")
    return tmp_path


@pytest.fixture
def sources(folder, bucket):
    """The folder's files, in the bucket."""
    for path in (folder / "text").iterdir():
        bucket.put(f"text/{path.name}", path.read_bytes())
    return f"{bucket.url}/text"


def recipe(*sources, tokenizer="train:300", **changes):
    return Recipe(sources or ("text",), tokenizer, 16, **changes)


def content(folder):
    """Every file's bytes but the manifest's, which names the sources, by name."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if name != "manifest.json"}


@pytest.mark.parametrize("workers", [1, 2])
def test_from_a_bucket_into_a_bucket(folder, sources, bucket, workers):
    asked = {"duplicates": "near", "shuffle_seed": 1}
    local = prepare(recipe(**asked), "local", workers=1)
    made = prepare(recipe(sources, **asked), f"{bucket.url}/made", workers=workers)
    assert made.fingerprint == local.fingerprint
    assert made.left_out == local.left_out == {"duplicate": 400}
    made_keys = [key for key in bucket.keys() if key.startswith("made/")]  # noqa: SIM118
    there = {key.removeprefix("made/"): bucket.get(key) for key in made_keys}
    (folder / "manifest.json").write_bytes(there.pop("manifest.json"))
    assert read_manifest(folder) == made
    kept = {name: data for name, data in there.items() if not name.startswith("dropped/")}
    same = content(folder / "local")
    assert kept == {name: data for name, data in same.items() if not name.startswith("dropped/")}
    with pytest.raises(UserError, match="made: already exists"):
        prepare(recipe(sources), f"{bucket.url}/made")


def test_a_glob_of_a_bucket_names_its_files_in_order(sources):
    made = prepare(recipe(f"{sources}/[ac].*"), "out", workers=1)
    assert made.settings["files"] == [f"{sources}/a.jsonl", f"{sources}/c.parquet"]
    assert made.document_count == 2 * len(TEXTS)
    with pytest.raises(UserError, match=r"text/\*\.txt: no such file"):
        prepare(recipe(f"{sources}/*.txt"), "other")


def test_a_bucket_that_stumbles_is_asked_again(sources, bucket):
    whole = prepare(recipe(sources), "whole", workers=1)
    bucket.fail("text/a.jsonl", "503", times=2)
    bucket.fail("text/b.jsonl.gz", "cut", times=1)
    assert prepare(recipe(sources), "out", workers=1).fingerprint == whole.fingerprint
    assert bucket.server.failed() == 3


def test_a_bucket_that_does_not_answer_loses_nothing(folder, sources, bucket, monkeypatch):
    monkeypatch.setattr("rbs_jax.remote.PAUSE", 0.01)
    whole = prepare(recipe(sources), "whole", workers=1)
    begun = recipe(sources, shuffle_seed=None)
    bucket.fail("text/c.parquet", "503", times=1000)
    with pytest.raises(UserError, match=r"text/c\.parquet"):
        prepare(begun, "out", workers=1)
    assert not (folder / "out").exists()
    bucket.server.mend()
    assert prepare(begun, "out", workers=1).fingerprint == whole.fingerprint


def test_a_pipeline_s_workers_write_the_same_bytes(folder, bucket):
    asked = recipe(duplicates="exact")
    local = prepare(asked, "local", workers=1)
    assert prepare(asked, "beam", beam=BEAM) == local
    assert content(folder / "beam") == content(folder / "local")
    made = prepare(asked, f"{bucket.url}/beam", beam="--runner=DirectRunner")
    assert made == local


def test_what_a_pipeline_s_worker_refuses_is_told_in_one_line(folder):
    (folder / "text" / "a.jsonl").write_text(LINES + "{\n")
    prepare(recipe("text/c.parquet"), "learnt", workers=1)
    with pytest.raises(UserError, match=r"^text/a\.jsonl:.*not valid JSON") as refused:
        prepare(Recipe(("text",), "learnt", 16), "out", strict=True, beam=BEAM)
    assert len(str(refused.value).splitlines()) == 1


def test_without_beam_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"pip install 'rbs_jax\[beam\]'"):
        prepare(recipe(), "out", beam="--runner=DirectRunner")


def test_a_corpus_is_streamed_from_its_bucket(folder, bucket, monkeypatch):
    monkeypatch.setenv("RBS_CACHE", str(folder / "cache"))
    url = f"{bucket.url}/made"
    made = prepare(recipe(), url, workers=1)
    local = prepare(recipe(tokenizer=url), "local", workers=1)
    assert local.fingerprint == made.fingerprint
    split, grid = SplitConfig(8, 8), GridConfig(4, 2)
    remote, near = (GridStream([Corpus(name)], split, grid, 0) for name in (url, "local"))
    bucket.fail("made/blocks.*", "503", times=1)
    np.testing.assert_equal(list(remote.read(0, 6)), list(near.read(0, 6)))
    assert bucket.server.failed() == 1
    cached = [path.name for path in (folder / "cache").rglob("blocks-*")]
    assert len(cached) == len(set(cached)) <= len(made.shards)
