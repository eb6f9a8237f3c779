import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbs_jax.data.split import Halves, SentenceEnds, SplitConfig, Splitter, wrapped
from rbs_jax.data.template import Wrapping
from rbs_jax.data.tokens import Tokens, train_tokens
from rbs_jax.errors import UserError

TEXT = 'One. Two is longer! "Three?" 3.5 apples (e.g. four).\n\nA heading\n\nFive\nsix. Seven'


@pytest.fixture(scope="module")
def prose():
    """A tokenizer of bytes: every character of TEXT is an id of its own."""
    return train_tokens([TEXT], 258)


def blocks(count, length, seed=0):
    return np.random.default_rng(seed).integers(1, 99, size=(count, length)).astype(np.int32)


def test_a_fixed_breakpoint_cuts_every_block_at_l1(tokens):
    block = np.arange(24, dtype=np.int32).reshape(2, 12)
    halves = Splitter(SplitConfig(4, 6), 0, tokens)(block, np.arange(2))
    np.testing.assert_array_equal(halves.prefixes, block[:, :4])
    np.testing.assert_array_equal(halves.prefix_lengths, [4, 4])
    np.testing.assert_array_equal(halves.suffixes, block[:, 4:10])


@given(
    st.integers(2, 12),
    st.integers(1, 9),
    st.sampled_from(["fixed", "random", "sentence"]),
    st.data(),
)
def test_prefix_and_suffix_are_neighbours_and_the_suffix_has_its_length(
    prose, prefix, suffix, breakpoint_, data
):
    reach = data.draw(st.integers(1, prefix - 1))
    config = SplitConfig(prefix, suffix, breakpoint_, reach)
    block = blocks(5, config.tokens_used + 1, seed=prefix)
    prefixes, lengths, suffixes = Splitter(config, 1, prose)(block, np.arange(5) * 7)
    assert prefixes.shape == (5, config.longest_prefix)
    assert suffixes.shape == (5, suffix)
    assert (np.abs(lengths - prefix) <= (0 if breakpoint_ == "fixed" else reach)).all()
    for row, ids, length, after in zip(block, prefixes, lengths, suffixes, strict=True):
        np.testing.assert_array_equal(ids[:length], row[:length])
        assert not ids[length:].any()
        np.testing.assert_array_equal(after, row[length : length + suffix])


def test_random_breakpoints_depend_on_seed_and_index_alone_and_reach_every_place(tokens):
    config = SplitConfig(8, 4, "random", reach=2)
    block = blocks(400, 14)
    lengths = Splitter(config, 3, tokens)(block, np.arange(400)).prefix_lengths
    assert set(lengths.tolist()) == {6, 7, 8, 9, 10}
    assert np.bincount(lengths)[6:].min() > 400 / 5 / 2
    backwards = Splitter(config, 3, tokens)(block[::-1], np.arange(400)[::-1]).prefix_lengths
    np.testing.assert_array_equal(backwards[::-1], lengths)
    other = Splitter(config, 4, tokens)(block, np.arange(400)).prefix_lengths
    assert not np.array_equal(other, lengths)


def test_a_block_keeps_its_random_breakpoint_for_ever(tokens):
    """Pinned: a resumed run, on any machine, must cut where the first one did."""
    config = SplitConfig(64, 8, "random", reach=16)
    lengths = Splitter(config, 0, tokens)(blocks(6, 99), np.arange(6)).prefix_lengths
    assert lengths.tolist() == [55, 58, 74, 66, 74, 57]


def test_sentences_end_where_a_reader_would_say(prose):
    (ids,) = prose.encode([TEXT])
    ends = SentenceEnds(prose)(np.array([ids]))[0]
    sentences = np.split(np.array(list(TEXT)), np.flatnonzero(ends) + 1)
    assert ["".join(part) for part in sentences] == [
        "One.",
        " Two is longer!",
        ' "Three?" 3.5 apples (e.g.',
        " four).",
        "\n",
        "\nA heading\n",
        "\nFive\nsix.",
        " Seven",
    ]


def test_closing_quotes_and_brackets_may_follow_a_full_stop_within_its_token():
    text = 'He said "no." She left (early.) Why?\n\nA title\n\nMore.\n'
    tokens = train_tokens([text] * 50, 400)
    (ids,) = tokens.encode([text])
    ends = np.flatnonzero(SentenceEnds(tokens)(np.array([ids]))[0])
    sentences = [tokens.decode([part.tolist()])[0] for part in np.split(np.array(ids), ends + 1)]
    assert sentences == [
        'He said "no."',
        " She left (early.)",
        " Why?",
        "\n",
        "\nA title\n",
        "\nMore.",
        "\n",
    ]


class Pieces(Tokens):
    """A vocabulary given as texts; the first ends a document."""

    end_id = 0

    def __init__(self, *texts):
        self._texts = ["", *texts]

    def pieces(self):
        return self._texts


def test_a_blank_line_may_be_spread_over_two_tokens():
    ends = SentenceEnds(Pieces("a\n", "\nb", "a", "b"))
    assert ends(np.array([[1, 2], [1, 4], [3, 2]])).tolist() == [[True], [False], [False]]


def test_halves_of_one_token_each_will_do(tokens):
    halves = Splitter(SplitConfig(1, 1), 0, tokens)(blocks(2, 2), np.arange(2))
    assert halves.prefixes.shape == halves.suffixes.shape == (2, 1)


def test_a_document_ends_a_sentence(prose):
    row = np.array([[5, prose.end_id, 6]])
    assert SentenceEnds(prose)(row).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("text", "reach", "length"),
    [
        ("aaaa. bbbbbb", 2, 5),
        ("aaaaaaaa. bb", 2, 9),
        ("aaa. bb. bbb", 3, 8),
        ("aaaa. bb. cc", 2, 5),  # as far on both sides: the shorter prefix
        ("aa. bbbbbbb. b", 2, 7),  # no end in reach: L1 itself
        ("aaaaaaaaa. b", 2, 7),  # one place beyond it on the right
        ("aaa. bbbbbbb", 2, 7),  # and on the left
    ],
)
def test_a_sentence_breakpoint_is_the_nearest_end_in_reach(prose, text, reach, length):
    config = SplitConfig(7, 1, "sentence", reach)
    row = np.array(prose.encode([text.ljust(12, "b")]), np.int32)
    assert Splitter(config, 0, prose)(row, np.arange(1)).prefix_lengths.tolist() == [length]


def test_the_share_of_blocks_with_a_sentence_end_in_reach_is_told(prose, tokens):
    rows = np.array(prose.encode(["aaaa. bbbbbb", "aa. bbbbbbb.", "aaaaaaaa. bb"]), np.int32)
    config = SplitConfig(7, 1, "sentence", reach=2)
    assert Splitter(config, 0, prose).share_at_sentence_ends(rows) == pytest.approx(2 / 3)
    assert Splitter(SplitConfig(7, 1), 0, tokens).share_at_sentence_ends(rows) is None


def halves_of(prefixes, lengths, suffixes):
    return Halves(*(np.array(x, np.int32) for x in (prefixes, lengths, suffixes)))


def test_a_template_stands_around_prefixes_of_any_length_and_behind_suffixes():
    halves = halves_of([[1, 2, 3], [4, 0, 0], [5, 6, 0]], [3, 1, 2], [[7, 8], [9, 10], [11, 12]])
    prefixes, lengths, suffixes = wrapped(halves, Wrapping([20, 21], [30], [40, 41]))
    assert prefixes.tolist() == [
        [20, 21, 1, 2, 3, 30],
        [20, 21, 4, 30, 0, 0],
        [20, 21, 5, 6, 30, 0],
    ]
    assert lengths.tolist() == [6, 4, 5]
    assert suffixes.tolist() == [[7, 8, 40, 41], [9, 10, 40, 41], [11, 12, 40, 41]]
    assert {x.dtype for x in (prefixes, lengths, suffixes)} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("wrapping", "prefix", "suffix"),
    [
        (Wrapping([], [], []), [[1, 2], [3, 0]], [[7], [8]]),
        (Wrapping([20], [], []), [[20, 1, 2], [20, 3, 0]], [[7], [8]]),
        (Wrapping([], [30, 31], []), [[1, 2, 30, 31], [3, 30, 31, 0]], [[7], [8]]),
        (Wrapping([], [], [40]), [[1, 2], [3, 0]], [[7, 40], [8, 40]]),
    ],
)
def test_a_template_may_lack_any_part(wrapping, prefix, suffix):
    halves = halves_of([[1, 2], [3, 0]], [2, 1], [[7], [8]])
    prefixes, lengths, suffixes = wrapped(halves, wrapping)
    assert prefixes.tolist() == prefix
    added = len(wrapping.before) + len(wrapping.between)
    assert lengths.tolist() == [2 + added, 1 + added]
    assert suffixes.tolist() == suffix
    assert halves.prefixes.tolist() == [[1, 2], [3, 0]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prefix_length": 0}, "at least 1"),
        ({"suffix_length": 0}, "at least 1"),
        ({"breakpoint": "random", "reach": 64}, "split.reach is 64"),
        ({"breakpoint": "sentence", "reach": 0}, "split.reach is 0"),
    ],
)
def test_lengths_out_of_range_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        SplitConfig(**wrong)
