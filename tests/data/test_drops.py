"""What is dropped before packing, through a whole preparation."""

import json
import random
import tracemalloc
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rbs_jax.data import parts as parts_module
from rbs_jax.data import survey as survey_module
from rbs_jax.data.parts import Part
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.shard_task import WORK, ShardTask
from rbs_jax.data.survey import read_found, survey_shard
from rbs_jax.errors import UserError
from rbs_jax.prepare import prepare

WORDS = [f"word{n}" for n in range(2000)]


def text_of(seed, words=120):
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def one_word_changed(text):
    words = text.split()
    words[60] = "changed"
    return " ".join(words)


def contaminated(text):
    return text + " " + " ".join(f"question{n}" for n in range(20))


UNIQUE = [text_of(seed) for seed in range(30)]
QUESTION = "Here: " + " ".join(f"question{n}" for n in range(14)) + "?"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts_module, "PART_BYTES", 2000)
    monkeypatch.setattr(parts_module, "SHARD_BYTES", 6000)
    (tmp_path / "bench.jsonl").write_text(
        json.dumps({"prompt": [{"role": "user", "content": QUESTION}], "n": 3}) + "\n"
    )
    return tmp_path


def write(folder, texts, name="text.jsonl"):
    lines = [json.dumps({"text": text, "key": f"k{n}"}) + "\n" for n, text in enumerate(texts)]
    (folder / name).write_text("".join(lines))


def made(out, texts, folder, **recipe):
    write(folder, texts)
    fields = {"sources": ("text.jsonl",), "tokenizer": "train:400", "block_length": 16}
    return prepare(Recipe(**fields | recipe), out, workers=1)


def dropped(folder, reason):
    return [json.loads(line) for line in (folder / f"dropped/{reason}.jsonl").open()]


TEXTS = [
    *UNIQUE[:10],
    contaminated(UNIQUE[0]),  # 10
    "  " + UNIQUE[3].replace(" ", "\n", 5),  # 11
    one_word_changed(UNIQUE[4]),  # 12
    *UNIQUE[10:],
    UNIQUE[4],  # 33
    contaminated(UNIQUE[0]),  # 34
    one_word_changed(UNIQUE[29]),  # 35
]


def rows_of(folder, lines, texts):
    """Where in the source each line's document stands, found by the part's start."""
    content = (folder / "text.jsonl").read_bytes()
    rows = []
    for line in lines:
        before = content[: line["start"]].count(b"\n")
        cut = line["start"] and not content[: line["start"]].endswith(b"\n")
        rows.append(before + bool(cut) + line["row"])
        assert line["id"] == f"k{rows[-1]}"
        assert line["file"] == "text.jsonl"
    return rows


def test_the_first_stays_and_each_reason_has_its_list(folder):
    manifest = made(
        "out", TEXTS, folder, duplicates="near", benchmarks=("bench.jsonl",), id_field="key"
    )
    assert len(manifest.shards) > 3
    assert manifest.left_out == {"contaminated": 2, "duplicate": 2, "near_duplicate": 2}
    lists = {reason: dropped(folder / "out", reason) for reason in manifest.left_out}
    rows = {reason: rows_of(folder, lines, TEXTS) for reason, lines in lists.items()}
    assert rows == {"contaminated": [10, 34], "duplicate": [11, 33], "near_duplicate": [12, 35]}
    assert {line["benchmark"] for line in lists["contaminated"]} == {"bench.jsonl"}
    stays = [line["stays"] for line in lists["duplicate"] + lists["near_duplicate"]]
    assert rows_of(folder, stays, TEXTS) == [3, 4, 4, 32]
    assert not (folder / "out" / WORK).exists()


def test_another_folder_of_the_same_names_has_benchmarks_of_its_own(folder, monkeypatch):
    asked = {"benchmarks": ("bench.jsonl",)}
    assert made("out", TEXTS, folder, **asked).left_out == {"contaminated": 2}
    other = folder / "elsewhere"
    other.mkdir()
    (other / "bench.jsonl").write_text(json.dumps({"prompt": UNIQUE[7]}) + "\n")
    monkeypatch.chdir(other)
    assert made("out", TEXTS, other, **asked).left_out == {"contaminated": 1}


def test_what_is_packed_is_the_rest_and_nothing_else(folder, monkeypatch):
    monkeypatch.setattr(parts_module, "PART_BYTES", 10**9)  # one shard
    asked = {"duplicates": "near", "benchmarks": ("bench.jsonl",)}
    tokens = made("tokens", TEXTS, folder)
    assert tokens.document_count == len(TEXTS)
    whole = made("whole", TEXTS, folder, tokenizer="tokens", **asked)
    rest = made("rest", UNIQUE, folder, tokenizer="tokens")
    assert whole.fingerprint == rest.fingerprint


def test_exact_alone_keeps_what_is_only_alike(folder):
    manifest = made("out", TEXTS, folder, duplicates="exact")
    assert manifest.left_out == {"duplicate": 3}
    assert not (folder / "out/dropped/near_duplicate.jsonl").exists()


def test_a_copy_stays_where_the_first_is_dropped_for_another_reason(folder):
    texts = [contaminated(UNIQUE[0]), UNIQUE[0] + " question1", UNIQUE[0], *UNIQUE[1:]]
    manifest = made("out", texts, folder, duplicates="near", benchmarks=("bench.jsonl",))
    assert manifest.left_out == {"contaminated": 1, "near_duplicate": 1}


def test_any_workers_drop_the_same(folder):
    asked = {"duplicates": "near", "benchmarks": ("bench.jsonl",), "shuffle_seed": 5}
    one = made("one", TEXTS, folder, **asked)
    write(folder, TEXTS)
    recipe = Recipe(**asked, sources=("text.jsonl",), tokenizer="train:400", block_length=16)
    assert prepare(recipe, "two", workers=2) == one
    for reason in one.left_out:
        name = f"dropped/{reason}.jsonl"
        assert (folder / "two" / name).read_bytes() == (folder / "one" / name).read_bytes()


def test_what_filters_leave_out_is_no_first(folder):
    long = UNIQUE[1] + " " * 1000 + "."
    texts = [long.replace(".", ""), *UNIQUE]
    manifest = made("out", texts, folder, duplicates="exact", max_characters=len(long) - 2)
    assert manifest.left_out == {"long": 1}


def task_of(part, folder):
    return ShardTask(0, 1, (part,), {}, Recipe(duplicates="near"), folder, "", True)


def test_a_look_that_is_done_is_not_done_again(folder, monkeypatch):
    write(folder, UNIQUE)
    task = task_of(Part("text.jsonl", 0, None, 0), "made")
    survey_shard(task)
    with ExitStack() as stack:
        found = read_found(task, stack)
        assert found.rows.tolist() == list(range(30))
        assert isinstance(found.signatures, np.memmap)
    monkeypatch.setattr(survey_module, "_look", None)
    survey_shard(task)


def test_a_look_at_a_file_that_cannot_be_cut_holds_few_bytes_a_document(folder):
    def peak(count):
        write(folder, (f"document {n % 10} of a file" for n in range(count)))
        part = Part("text.jsonl", 0, None, 0)
        task = task_of(part, f"made{count}")
        tracemalloc.start()
        survey_shard(task)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what stays, such as remembered words
    assert peak(400) - peak(200) < 200 * 300  # a signature alone is 512 bytes


@pytest.mark.parametrize("kind", ["parquet", "txt", "jsonl.gz"])
def test_benchmarks_come_in_every_kind_of_file(folder, kind):
    name = f"other.{kind}"
    if kind == "parquet":
        row = {"chosen": [["a", QUESTION]], "n": 1}
        parquet.write_table(pa.Table.from_pylist([row]), folder / name)
    elif kind == "txt":
        (folder / name).write_text(QUESTION)
    else:
        import gzip

        (folder / name).write_bytes(gzip.compress((folder / "bench.jsonl").read_bytes()))
    assert made("out", TEXTS, folder, benchmarks=(name,)).left_out == {"contaminated": 2}


def test_benchmarks_that_say_nothing_are_refused(folder):
    (folder / "empty.jsonl").write_text('{"n": 1}\n')
    with pytest.raises(UserError, match=r"benchmarks empty\.jsonl: no text in them"):
        made("out", TEXTS, folder, benchmarks=("empty.jsonl",))
    (folder / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"bad\.parquet: cannot be read"):
        made("out", TEXTS, folder, benchmarks=("bad.parquet",))
    assert not list(folder.glob("out*"))
