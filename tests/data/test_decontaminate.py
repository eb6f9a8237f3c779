import pytest

from rbs_jax.data.decontaminate import without_shared_runs

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


def test_kept_documents_keep_their_order_and_their_text():
    heldout = ["Second, then.", "First!"]
    assert without_shared_runs(iter(heldout), iter([TRAINING])) == heldout
