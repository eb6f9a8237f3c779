import copy
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from rbs_jax.data import corpus as corpus_module
from rbs_jax.data.blocks import pack
from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.manifest import read_manifest
from rbs_jax.data.reader import Corpus
from rbs_jax.data.tokens import train_tokens
from rbs_jax.errors import UserError


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(corpus_module, "SHARD_CHARACTERS", 1000)
    monkeypatch.setattr(corpus_module, "ENCODE_DOCUMENTS", 4)


def test_a_corpus_reads_back_to_the_packed_blocks(tmp_path, texts, tokens, small_shards):
    manifest = write_corpus(texts, tmp_path / "out", tokens, 8, {})
    assert len(manifest.shards) > 2
    expected, first = [], 0
    for index, shard in enumerate(manifest.shards):
        own = texts[first : first + shard["documents"]]
        expected += pack(tokens.encode(own), index * 2**32, 8, tokens.end_id)
        first += len(own)
    assert first == len(texts)

    corpus = Corpus(tmp_path / "out")
    blocks = corpus.read(range(len(corpus)))
    np.testing.assert_array_equal(blocks.tokens, [block.tokens for block in expected])
    np.testing.assert_array_equal(blocks.documents, [block[1:] for block in expected])
    backwards = corpus.read([len(corpus) - 1, 0])
    np.testing.assert_array_equal(backwards.tokens, blocks.tokens[[-1, 0]])
    assert corpus.tokens().sha256 == tokens.sha256


def test_tensorflow_datasets_alone_can_read_it(tmp_path, texts, tokens, small_shards):
    write_corpus(texts, tmp_path / "out", tokens, 8, {})
    script = """
import json, sys
import tensorflow_datasets as tfds
rows = tfds.builder_from_directory(sys.argv[1]).as_data_source("train")
assert not {"tensorflow", "jax", "rbs_jax"} & set(sys.modules)
rows = [rows[index] for index in range(len(rows))]
print(json.dumps([[row["tokens"].tolist(), row["documents"].tolist()] for row in rows]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    corpus = Corpus(tmp_path / "out")
    blocks = corpus.read(range(len(corpus)))
    expected = zip(blocks.tokens.tolist(), blocks.documents.tolist(), strict=True)
    assert json.loads(done.stdout) == [list(row) for row in expected]


def test_records_are_those_of_tfds_s_own_serializer(tmp_path, texts, tokens):
    write_corpus(texts, tmp_path / "out", tokens, 8, {})
    features = corpus_module._features(8)
    serializer = ExampleSerializer(features.get_serialized_info())
    (path,) = (tmp_path / "out").glob("blocks-*")
    reader = ArrayRecordReader(str(path))
    records = reader.read_all()
    reader.close()
    assert len(records) > 10
    for record in records:
        example = features.deserialize_example_np(record)
        made = serializer.get_tf_example(features.encode_example(example))
        assert record == made.SerializeToString(deterministic=True)


def test_the_manifest_counts_every_token_once(tmp_path, texts, tokens, small_shards):
    manifest = write_corpus(texts, tmp_path / "out", tokens, 8, {"note": "ü"})
    assert read_manifest(tmp_path / "out") == manifest
    total = sum(len(ids) + 1 for ids in tokens.encode(texts))
    assert manifest.token_count + manifest.dropped_token_count == total
    assert manifest.token_count == 8 * manifest.block_count
    assert manifest.dropped_token_count < 8 * len(manifest.shards)
    assert manifest.block_count == sum(shard["blocks"] for shard in manifest.shards)
    assert manifest.document_count == len(texts)
    assert manifest.vocab_size == tokens.vocab_size
    assert manifest.settings == {"note": "ü"}


def test_documents_without_text_are_counted_and_left_out(tmp_path, texts, tokens):
    with_empty = ["", *texts[:5], " \n\t", *texts[5:], "\n"]
    manifest = write_corpus(with_empty, tmp_path / "with", tokens, 8, {})
    assert (manifest.document_count, manifest.left_out) == (len(texts), {"empty": 3})
    assert manifest.fingerprint == write_corpus(texts, tmp_path / "no", tokens, 8, {}).fingerprint


def test_equal_corpora_have_equal_fingerprints_and_others_another(tmp_path, texts, tokens):
    other_tokens = train_tokens(["something else to learn from, else"], 300)
    made = {
        "same": (texts, tokens, 8),
        "again": (iter(texts), tokens, 8),
        "one letter": ([texts[0] + "s", *texts[1:]], tokens, 8),
        "order": (texts[::-1], tokens, 8),
        "border": ([texts[0] + " " + texts[1], *texts[2:]], tokens, 8),
        "block length": (texts, tokens, 9),
        "tokenizer": (texts, other_tokens, 8),
    }
    prints = {
        name: write_corpus(documents, tmp_path / name, by, length, {"name": name}).fingerprint
        for name, (documents, by, length) in made.items()
    }
    assert prints["same"] == prints.pop("again")
    assert len(set(prints.values())) == len(prints)


def test_the_fingerprint_hangs_on_every_token_of_a_block(tmp_path):
    one_byte_each = train_tokens([], 258)
    texts = ["aaaaaaa"] + ["a" * n + "b" + "a" * (6 - n) for n in range(7)]
    prints = {
        write_corpus([text], tmp_path / text, one_byte_each, 8, {}).fingerprint for text in texts
    }
    assert len(prints) == len(texts)


def test_the_fingerprint_knows_the_tokenizer_even_where_the_ids_agree(tmp_path, texts, tokens):
    renamed = copy.copy(tokens)
    renamed.sha256 = "0" * 64
    one = write_corpus(texts, tmp_path / "one", tokens, 8, {})
    assert one.fingerprint != write_corpus(texts, tmp_path / "two", renamed, 8, {}).fingerprint


def test_something_at_out_is_refused_and_left_untouched(tmp_path, texts, tokens):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    with pytest.raises(UserError, match="out: already exists"):
        write_corpus(texts, tmp_path / "out", tokens, 8, {})
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]
    assert (tmp_path / "out" / "precious").read_text() == "mine"


def test_an_empty_folder_at_out_is_taken(tmp_path, texts, tokens):
    (tmp_path / "out").mkdir()
    write_corpus(texts, tmp_path / "out", tokens, 8, {})
    assert len(Corpus(tmp_path / "out")) > 0


def test_nothing_is_left_behind_where_a_source_fails_midway(tmp_path, texts, tokens, small_shards):
    shards_begun = []

    def failing():
        yield from texts
        shards_begun.extend(tmp_path.rglob("shard-*"))
        raise UserError("a.jsonl:61: not valid JSON")

    with pytest.raises(UserError, match="not valid JSON"):
        write_corpus(failing(), tmp_path / "out", tokens, 8, {})
    assert shards_begun
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("documents", "block_length", "message"),
    [
        (["a few words"], 100, "not one block of 100; add text or lower --block-length"),
        (["", " "], 8, "no document with text; left out: 2 empty$"),
        ([], 8, "no document with text"),
        (["a few words"], 1, "block_length is 1: a block needs a prefix and a suffix"),
    ],
)
def test_a_corpus_without_a_block_is_refused(tmp_path, tokens, documents, block_length, message):
    with pytest.raises(UserError, match=message):
        write_corpus(documents, tmp_path / "out", tokens, block_length, {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def written(tmp_path, texts, tokens, small_shards):
    write_corpus(texts, tmp_path / "out", tokens, 8, {})
    return tmp_path / "out"


def test_a_missing_shard_is_named(written):
    shard = sorted(written.glob("*.array_record-*"))[1]
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: shard is missing"):
        Corpus(written)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-100],
        lambda _: b"",
        lambda whole: bytes(len(whole)),
        lambda whole: whole + bytes(100),
    ],
    ids=["cut", "empty", "overwritten", "extended"],
)
def test_a_broken_shard_is_named(written, damage):
    shard = sorted(written.glob("*.array_record-*"))[1]
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(UserError, match=f"{shard.name}: shard is broken"):
        Corpus(written)


def test_a_shard_whose_content_is_broken_is_named_when_it_is_read(written):
    shard = sorted(written.glob("*.array_record-*"))[1]
    content = bytearray(shard.read_bytes())
    content[200:250] = b"\xaa" * 50
    shard.write_bytes(content)
    corpus = Corpus(written)
    with pytest.raises(
        UserError, match=rf"{shard.name}: shard is broken .*; prepare the corpus again$"
    ):
        corpus.read(range(len(corpus)))


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match="no corpus here"):
        Corpus(tmp_path)


@pytest.mark.parametrize("change", [{"block_count": None}, {"new_field": 1}, {"shards": 3}])
def test_a_manifest_of_another_version_is_refused(written, change):
    fields = dataclasses.asdict(read_manifest(written)) | change
    kept = {name: value for name, value in fields.items() if value is not None}
    (written / "manifest.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest of this version"):
        Corpus(written)


def test_a_manifest_that_is_no_json_is_refused(written):
    (written / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest of this version"):
        Corpus(written)
