import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from rbs_jax.data.decontaminate import RUN, BenchmarkRuns, texts_of, without_shared_runs
from rbs_jax.data.words import run_hashes

WORDS = [f"word{n}" for n in range(40)]
TRAINING = " ".join(WORDS)


@pytest.mark.parametrize("start", [0, 11, 27])
def test_thirteen_words_in_common_drop_a_document_and_twelve_do_not(start):
    shared = WORDS[start : start + 13]
    drops = " ".join(["before", *shared, "after"])
    stays = " ".join(["before", *shared[:12], "after", *shared[12:]])
    assert without_shared_runs([drops, stays], ["something else", TRAINING]) == [stays]


def test_case_punctuation_and_white_space_do_not_matter():
    shouted = ",\n  ".join(f"({word.upper()})!" for word in WORDS[:13])
    assert without_shared_runs([shouted], [TRAINING]) == []


def test_a_short_text_is_dropped_only_by_its_equal():
    short = ["word1 word2", "word1 word2 word3"]
    assert without_shared_runs(short, [TRAINING, "Word1, word2."]) == ["word1 word2 word3"]


def test_a_text_without_words_shares_nothing():
    assert without_shared_runs(["?!", ""], ["", "?!", TRAINING]) == ["?!", ""]


def test_kept_documents_keep_their_order_and_their_text():
    heldout = ["Second, then.", "First!"]
    assert without_shared_runs(iter(heldout), iter([TRAINING])) == heldout


@pytest.mark.parametrize("length", [1, 2, 5, 13])
def test_hashes_are_as_different_as_the_runs(length):
    words = np.random.default_rng(0).choice(["a", "b", "c", "d"], 3000).tolist()
    runs = [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]
    hashes = run_hashes(" ".join(words), length).tolist()
    assert len(hashes) == len(runs)
    pairs = set(zip(hashes, runs, strict=True))
    assert len(pairs) == len(set(hashes)) == len(set(runs))


def test_hashes_are_the_same_on_every_machine():
    assert run_hashes("Der Fluß, der 2. Fluss", 3).tolist() == [
        13964466575736561102,
        16724859659313328468,
        14086189010357820943,
    ]


@pytest.mark.parametrize(("words", "runs"), [(0, 0), (1, 1), (12, 1), (13, 1), (14, 2), (40, 28)])
def test_number_of_runs(words, runs):
    assert len(run_hashes(" ".join(WORDS[:words]), RUN)) == runs


def test_the_first_file_that_shares_a_run_is_named():
    texts = [
        ("math", " ".join(WORDS[:20])),
        ("code", "word0 word1"),
        ("math", "no more than this"),
        ("code", TRAINING),
    ]
    runs = BenchmarkRuns.of(iter(texts))
    assert runs.names == ("math", "code")
    assert len(runs) == 8 + 1 + 1 + 20
    assert runs.shared(" ".join(WORDS[27:])) == "code"
    assert runs.shared(" ".join(WORDS[5:])) == "math"  # in both, and more of it in the second
    assert runs.shared(" ".join(WORDS[:12])) is None
    assert runs.shared("Word0: word1") == "code"
    assert runs.shared("word0 word1 word2") is None
    assert runs.shared("") is None


def test_every_run_is_found_and_no_other():
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, 60)) for _ in range(30)]
    runs = BenchmarkRuns.of(("file", text) for text in texts)
    for text in texts:
        words = text.split()
        for at in range(60 - 12):
            assert runs.shared("x " + " ".join(words[at : at + 13])) == "file"
            assert runs.shared(" ".join([*words[at : at + 12], "x", "x"])) is None


def test_without_benchmark_texts_nothing_is_shared():
    runs = BenchmarkRuns.of([])
    assert len(runs) == 0
    assert runs.shared(TRAINING) is None


def test_another_process_finds_the_same(tmp_path):
    """One whose own hashes of strings differ, as those of worker processes do."""
    runs = BenchmarkRuns.of([("first", "something short"), ("second", TRAINING)])
    (tmp_path / "runs").write_bytes(pickle.dumps(runs))
    code = (
        "import pickle, sys; runs = pickle.load(open(sys.argv[1], 'rb'));"
        "print(runs.shared(sys.argv[2]), runs.shared('something else'))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "runs", TRAINING],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert there.stdout.split() == ["second", "None"]


def test_every_string_of_a_record_is_a_text_but_no_name_of_a_field():
    row = '{"id": 3, "a": ["b", {"c": [["d"], null, true]}], "e": "f", "g": {"h": "i", "j": 0.5}}'
    assert list(texts_of(json.loads(row))) == ["b", "d", "f", "i"]
    assert list(texts_of("alone")) == ["alone"]
    assert list(texts_of(None)) == []


def test_records_may_be_nested_deeper_than_python_calls():
    record = "inside"
    for _ in range(5000):
        record = [record]
    assert list(texts_of(record)) == ["inside"]


def test_half_a_surrogate_pair_is_no_word_and_no_error():
    runs = BenchmarkRuns.of([("file", t) for t in texts_of(json.loads('"\\ud83d caf\\u00e9"'))])
    assert runs.shared("CAFÉ") == "file"
