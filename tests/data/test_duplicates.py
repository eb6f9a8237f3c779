import itertools
import subprocess
import sys

import numpy as np
import pytest

from rbs_jax.data import duplicates
from rbs_jax.data.duplicates import digest, first_of_alike, first_of_equals, signature

VOCABULARY = [f"w{n}" for n in range(3000)]


def text(words):
    return " ".join(words)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def new_words(rng, count):
    return rng.choice(VOCABULARY, count).tolist()


def edited(rng, words, share):
    """The words, each replaced with the probability `share`."""
    return np.where(rng.random(len(words)) < share, new_words(rng, len(words)), words).tolist()


def families(rng):
    """Documents in families that share more or less of their words, shuffled."""
    words = []
    for share in [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3] * 6:
        original = new_words(rng, int(rng.integers(100, 400)))
        words += [original, *(edited(rng, original, share) for _ in range(4))]
    rng.shuffle(words)
    return words


FAMILIES = families(np.random.default_rng(5))
TEXTS = [text(words) for words in FAMILIES]
SIGNATURES = np.stack([signature(t) for t in TEXTS])


def shingles(words):
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def digests(texts):
    return np.frombuffer(b"".join(digest(t) for t in texts), np.uint8).reshape(-1, 16)


def alike(texts, threshold=0.8):
    return first_of_alike([np.stack([signature(t) for t in texts])], threshold).tolist()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("a b", " a\n\tb ", True),
        ("a\u00a0b", "a b", True),
        ("", " \n", True),
        ("a b", "ab", False),
        ("a b", "A b", False),
        ("a b", "a b.", False),
        ("a b", "b a", False),
    ],
)
def test_what_counts_as_equal(one, other, equal):
    assert len(digest(one)) == 16
    assert (digest(one) == digest(other)) == equal


def test_first_of_equals_names_the_first_with_the_same_digest(rng):
    texts = rng.choice(["a", "b", "c", "d e", "f"], 200).tolist()
    assert first_of_equals(digests(texts)).tolist() == [texts.index(t) for t in texts]
    assert first_of_equals(digests(["a", "b"])[:0]).tolist() == []


@pytest.mark.parametrize("byte", range(16))
def test_every_byte_of_a_digest_counts(byte):
    rows = np.zeros((4, 16), np.uint8)
    rows[[1, 3], byte] = 1
    assert first_of_equals(rows).tolist() == [0, 1, 0, 1]


def test_signatures_are_the_same_on_every_machine():
    sketch = signature("Four score and seven years ago")
    assert sketch.dtype == np.uint32
    assert sketch.shape == (duplicates.PERMUTATIONS,)
    assert sketch[:4].tolist() == [1092343065, 664286359, 1198094547, 634476921]


def test_signatures_are_the_same_in_another_process():
    code = "import sys; from rbs_jax.data.duplicates import *;"
    code += "t = sys.stdin.read(); print(digest(t).hex(), signature(t).tobytes().hex())"
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        input=TEXTS[0],
        capture_output=True,
        check=True,
        text=True,
    )
    assert there.stdout.split() == [digest(TEXTS[0]).hex(), SIGNATURES[0].tobytes().hex()]


def test_a_long_text_is_hashed_in_pieces_to_the_same_signature(monkeypatch, rng):
    words = text(new_words(rng, 2000))
    whole = signature(words)
    monkeypatch.setattr(duplicates, "AT_ONCE", 7)
    np.testing.assert_array_equal(signature(words), whole)


def test_case_punctuation_and_repetition_do_not_change_a_signature(rng):
    words = new_words(rng, 50)
    loud = ", ".join(words).upper() + "!"
    np.testing.assert_array_equal(signature(loud), signature(text(words)))
    again = text(words * 3)
    np.testing.assert_array_equal(signature(again), signature(text(words * 2)))


def test_one_word_of_two_hundred_is_found_and_strangers_are_not(rng):
    texts = []
    for at in range(200):
        words = new_words(rng, 200)
        texts += [text(words), text([*words[:at], "other", *words[at + 1 :]])]
    first = alike(texts)
    assert first == [n - n % 2 for n in range(400)]


def test_clusters_agree_with_true_similarities():
    """Alike at 0.9 are found, below 0.5 are never compared as alike."""
    sets = [shingles(words) for words in FAMILIES]
    first = first_of_alike([SIGNATURES], 0.8)
    similar, found = 0, 0
    for a, b in itertools.combinations(range(len(sets)), 2):
        common = len(sets[a] & sets[b])
        true = common / (len(sets[a]) + len(sets[b]) - common)
        if true >= 0.9:
            similar += 1
            found += first[a] == first[b]
        if true < 0.5:
            assert (SIGNATURES[a] == SIGNATURES[b]).mean() < 0.8
    assert similar > 200
    assert found >= 0.99 * similar


def test_a_cluster_is_what_alike_pairs_connect():
    """Against every pair compared, and the clusters followed from link to link."""
    agreement = (SIGNATURES[:, None] == SIGNATURES[None]).mean(axis=2)
    first = np.arange(len(TEXTS))
    for _ in range(20):
        first = np.where(agreement >= 0.8, first[None], len(TEXTS)).min(axis=1)
    found = first_of_alike([SIGNATURES], 0.8)
    assert (found == first).mean() > 0.99
    # What the bands miss keeps a document; they never drop one.
    assert (found >= first).all()
    assert (first != np.arange(len(TEXTS))).sum() > 140


def test_the_first_of_every_cluster_stays():
    first = first_of_alike([SIGNATURES], 0.7)
    assert (first[first] == first).all()
    assert (first <= np.arange(len(first))).all()


@pytest.mark.parametrize("cuts", [[], [1], [0, 7, 7, 150], list(range(299))])
@pytest.mark.parametrize("rows", [3, 1 << 14])
def test_parts_do_not_matter(monkeypatch, tmp_path, cuts, rows):
    whole = first_of_alike([SIGNATURES], 0.8)
    monkeypatch.setattr(duplicates, "AT_ONCE", rows)
    for number, part in enumerate(np.split(SIGNATURES, cuts)[:250]):
        np.save(tmp_path / f"{number:03d}.npy", part)
    parts = np.split(SIGNATURES, cuts)
    saved = [np.load(f, mmap_mode="r") for f in sorted(tmp_path.iterdir())]
    np.testing.assert_array_equal(first_of_alike([*saved, *parts[250:]], 0.8), whole)


def test_the_order_of_documents_decides_only_who_is_first(rng):
    order = rng.permutation(len(TEXTS))
    before = first_of_alike([SIGNATURES], 0.8)
    after = first_of_alike([SIGNATURES[order]], 0.8)
    together = before[order][:, None] == before[order][None]
    np.testing.assert_array_equal(after[:, None] == after[None], together)


def test_texts_shorter_than_a_shingle_are_alike_only_to_the_same_words():
    texts = ["one two", "One, two!", "one", "two one", "", "", "!", "one two three four five"]
    assert alike(texts, 0.5) == [0, 0, 2, 3, 4, 5, 6, 7]


def one_band_in_common(rng, pairs):
    """Signatures of pairs that are alike, every second the other's; all share one band only."""
    rows = np.repeat(rng.integers(0, 1 << 32, (pairs, 128), np.uint32), 2, axis=0)
    rows[:, :9] = 1
    rows[1::2, 9::9] += 1
    return rows


def test_all_pairs_of_a_group_are_compared(rng):
    assert (
        first_of_alike([one_band_in_common(rng, 100)], 0.8).tolist()
        == np.repeat(np.arange(0, 200, 2), 2).tolist()
    )


def test_similarity_is_enough_at_the_threshold_and_not_below(rng):
    rows = rng.integers(0, 1 << 32, (3, 128), np.uint32)
    rows[1, :64] = rows[0, :64]
    rows[2, :63] = rows[0, :63]
    assert first_of_alike([rows], 0.5).tolist() == [0, 0, 2]


def test_huge_groups_are_compared_with_their_first_documents_only(monkeypatch, rng):
    monkeypatch.setattr(duplicates, "PIVOTS", 5)
    first = first_of_alike([one_band_in_common(rng, 100)], 0.8)
    assert first.tolist() == [0, 0, 2, 2, 4, 4, *range(6, 200)]


def test_copies_crowd_nobody_out_of_a_huge_group(monkeypatch, rng):
    monkeypatch.setattr(duplicates, "PIVOTS", 2)
    rows = one_band_in_common(rng, 10)
    rows[:18] = rows[0]
    assert first_of_alike([rows], 0.8).tolist() == [0] * 18 + [18, 18]
