import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.order import Order
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SentenceEnds, SplitConfig
from rbs_jax.data.stream import BlockStream, GridStream, Work
from rbs_jax.data.template import Template, TemplateConfig
from rbs_jax.errors import UserError

SPLIT = SplitConfig(prefix_length=4, suffix_length=4)
GRID = GridConfig(prefixes=4, grids_per_step=4)
OTHERS = ~np.eye(4, dtype=bool)


@pytest.fixture
def stream(corpus):
    return GridStream([corpus], SPLIT, GRID, seed=0)


@pytest.fixture(scope="module")
def numbers(corpus):
    """A block's place in the corpus, by its ids."""
    rows = corpus.read(range(len(corpus))).tokens
    numbers = {tuple(row): number for number, row in enumerate(rows.tolist())}
    assert len(numbers) == len(corpus), "the test corpus repeats a block"
    return numbers


@pytest.fixture(scope="module")
def documents(corpus):
    return documents_of(corpus)


def documents_of(corpus):
    """The documents that each block has ids of."""
    spans = corpus.read(range(len(corpus))).documents
    return [set(range(first, last + 1)) for first, last in spans.tolist()]


def blocks_of(batch, numbers):
    """The places of a batch's blocks, [grids, prefixes]."""
    rows = np.concatenate([batch.tokens.prefixes, batch.tokens.suffixes], axis=-1)
    return np.array([[numbers[tuple(row)] for row in grid] for grid in rows.tolist()])


def test_a_batch_has_the_shapes_of_its_config(stream):
    batch = stream.batch(0)
    assert batch.tokens.prefixes.shape == batch.tokens.suffixes.shape == (4, 4, 4)
    assert batch.negatives.shape == (4, 4, 4)
    assert (batch.tokens.prefix_lengths == 4).all()
    assert (batch.tokens.suffix_lengths == 4).all()
    assert (batch.positive == np.arange(4)).all()


def test_a_step_gives_the_same_batch_in_any_order_and_stream(corpus, stream):
    steps = range(2 * stream.steps_per_epoch + 1)
    forward = [stream.batch(step) for step in steps]
    for step in reversed(steps):
        np.testing.assert_equal(stream.batch(step), forward[step])
        np.testing.assert_equal(
            GridStream([corpus], SPLIT, GRID, seed=0).batch(step), forward[step]
        )


def test_another_seed_gives_another_order(corpus, stream, numbers):
    other = GridStream([corpus], SPLIT, GRID, seed=1)
    assert not np.array_equal(
        blocks_of(stream.batch(0), numbers), blocks_of(other.batch(0), numbers)
    )


def test_every_epoch_is_another_permutation_without_repeats(corpus, stream, numbers):
    per_epoch = stream.steps_per_epoch
    assert per_epoch == len(corpus) // 16 > 2
    assert len(corpus) % 16, "the test corpus should leave a remainder"
    epochs = [
        [
            number
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch)
            for number in blocks_of(stream.batch(step), numbers).ravel().tolist()
        ]
        for epoch in range(3)
    ]
    for order in epochs:
        assert len(set(order)) == len(order) == 16 * per_epoch
        assert order != sorted(order)
    assert all(one != other for one, other in itertools.combinations(epochs, 2))
    assert set().union(*epochs) == set(range(len(corpus))), "a block that sits out always"


def test_reading_ahead_gives_the_batches_of_its_steps_in_order(stream):
    batches = list(stream.read(2, 9))
    assert len(batches) == 7
    for step, batch in enumerate(batches, start=2):
        np.testing.assert_equal(batch, stream.batch(step))


def test_blocks_that_share_a_document_are_not_each_others_negatives(corpus, numbers, documents):
    stream = GridStream([corpus], SPLIT, GridConfig(prefixes=16), seed=0)
    neighbours = 0
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        (grid,) = blocks_of(batch, numbers).tolist()
        expected = np.array([[documents[p].isdisjoint(documents[s]) for s in grid] for p in grid])
        np.testing.assert_array_equal(batch.negatives[0], expected)
        assert not np.diagonal(batch.negatives[0]).any()
        neighbours += int((~expected).sum()) - 16
    assert neighbours > 0, "the test corpus should have neighbours in a batch"


def test_a_corpus_smaller_than_a_batch_is_refused(corpus):
    enough = GridConfig(prefixes=len(corpus))
    assert GridStream([corpus], SPLIT, enough, seed=0).steps_per_epoch == 1
    for grid in (GridConfig(len(corpus) + 1), GridConfig(len(corpus) // 2 + 1, 2)):
        with pytest.raises(UserError, match=f"{len(corpus)} blocks are fewer than the"):
            GridStream([corpus], SPLIT, grid, seed=0)


def test_blocks_shorter_than_prefix_and_suffix_are_refused(corpus):
    with pytest.raises(UserError, match="blocks of 8 ids are shorter than prefix \\+ suffix = 9"):
        GridStream([corpus], SplitConfig(4, 5), GRID, seed=0)


def test_the_data_room_starts_no_jax_backend():
    script = (
        "import rbs_jax.data.stream, jax._src.xla_bridge as bridge; assert not bridge._backends"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_corpus_of_one_document_is_refused_since_it_has_no_negatives(tmp_path, texts, tokens):
    write_corpus([" ".join(texts)], tmp_path / "one", tokens, 8, {})
    one = Corpus(tmp_path / "one")
    with pytest.raises(UserError, match="one document has no negatives"):
        GridStream([one], SPLIT, GRID, seed=0)
    for kept in ("keep", "seek"):
        stream = GridStream([one], SPLIT, dataclasses.replace(GRID, same_document=kept), seed=0)
        assert (stream.batch(0).negatives == OTHERS).all()
    write_corpus([" ".join(texts)] * 2, tmp_path / "two", tokens, 8, {})
    assert GridStream([Corpus(tmp_path / "two")], SPLIT, GRID, seed=0).batch(0).negatives.any()


def test_kept_suffixes_of_the_own_document_are_negatives_like_all_others(corpus, stream):
    kept = GridStream([corpus], SPLIT, dataclasses.replace(GRID, same_document="keep"), seed=0)
    masked = 0
    for step in range(kept.steps_per_epoch):
        one, other = kept.batch(step), stream.batch(step)
        np.testing.assert_equal(one.tokens, other.tokens)
        assert (one.negatives == OTHERS).all()
        masked += (OTHERS & ~other.negatives).sum()
    assert masked, "the test corpus should have neighbours in a batch"


@pytest.mark.parametrize("order", ["shuffled", "corpus"])
def test_sought_neighbours_are_a_grid_and_each_others_negatives(corpus, numbers, documents, order):
    grid = dataclasses.replace(GRID, same_document="seek", order=order)
    stream, shared, runs = GridStream([corpus], SPLIT, grid, seed=0), 0, []
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        assert (batch.negatives == OTHERS).all()
        for blocks in blocks_of(batch, numbers).tolist():
            assert blocks == list(range(blocks[0], blocks[0] + 4))
            runs.append(blocks[0])
            shared += sum(
                not documents[p].isdisjoint(documents[s])
                for p, s in itertools.combinations(blocks, 2)
            )
    assert shared > len(runs), "the test corpus should have long documents"
    assert len(set(runs)) == len(runs)
    assert (runs == sorted(runs)) is (order == "corpus")


def test_the_corpus_own_order_starts_at_its_first_block_every_epoch(corpus, numbers):
    stream = GridStream([corpus], SPLIT, dataclasses.replace(GRID, order="corpus"), seed=5)
    for step in (0, stream.steps_per_epoch):
        assert blocks_of(stream.batch(step), numbers).ravel().tolist() == list(range(16))


@pytest.mark.parametrize("wanted", [1, 2])
def test_as_many_negatives_count_as_are_wanted_or_all_there_are(corpus, stream, wanted):
    grid = dataclasses.replace(GRID, negatives_per_prefix=wanted)
    few = GridStream([corpus], SPLIT, grid, seed=0)
    for step in range(few.steps_per_epoch):
        one, whole = few.batch(step), stream.batch(step)
        np.testing.assert_equal(one.tokens, whole.tokens)
        assert not (one.negatives & ~whole.negatives).any()
        there = whole.negatives.sum(axis=-1)
        np.testing.assert_array_equal(one.negatives.sum(axis=-1), np.minimum(wanted, there))
        np.testing.assert_equal(GridStream([corpus], SPLIT, grid, seed=0).batch(step), one)


def test_negatives_are_drawn_anew_for_each_grid_step_epoch_and_seed(corpus):
    grid = GridConfig(8, 4, same_document="keep", negatives_per_prefix=3)
    streams = [GridStream([corpus], SPLIT, grid, seed) for seed in (0, 1)]
    steps = (0, 1, streams[0].steps_per_epoch)
    drawn = [
        negatives.tobytes()
        for stream in streams
        for step in steps
        for negatives in stream.batch(step).negatives
    ]
    assert len(set(drawn)) == len(drawn) == 2 * 3 * 4


@pytest.mark.parametrize("changed", [{}, {"negatives_per_prefix": 2}, {"permute_positives": True}])
def test_the_slices_of_four_hosts_make_the_batch_of_one(corpus, changed):
    stream = GridStream([corpus], SPLIT, dataclasses.replace(GRID, **changed), seed=0)
    whole = stream.batch(3)
    hosts = [next(stream.read(3, 4, slice(host, host + 1))) for host in range(4)]
    for name in whole.tokens._fields:
        parts = [getattr(host.tokens, name) for host in hosts]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole.tokens, name))
    for name in ("positive", "negatives"):
        parts = [getattr(host, name) for host in hosts]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole, name))


def halves_of(letters, batch):
    """The places of the blocks that a batch's prefixes, and its suffixes, come from."""
    rows = letters.read(range(len(letters))).tokens
    for half, ids in ((rows[:, :4], batch.tokens.prefixes), (rows[:, 4:], batch.tokens.suffixes)):
        places = {tuple(row): number for number, row in enumerate(half.tolist())}
        assert len(places) == len(letters)
        yield np.array([[places[tuple(row)] for row in grid] for grid in ids.tolist()])


def test_permuted_positives_are_suffixes_of_other_blocks(letters):
    grid = dataclasses.replace(GRID, permute_positives=True)
    plain, permuted = (
        GridStream([letters], SPLIT, GRID, seed=0),
        GridStream([letters], SPLIT, grid, seed=0),
    )
    pairs = []
    for step in range(2 * plain.steps_per_epoch):
        batch = permuted.batch(step)
        np.testing.assert_equal(batch.tokens.prefixes, plain.batch(step).tokens.prefixes)
        np.testing.assert_equal(GridStream([letters], SPLIT, grid, seed=0).batch(step), batch)
        of_p, of_s = halves_of(letters, batch)
        pairs += zip(of_p.ravel().tolist(), of_s.ravel().tolist(), strict=True)
    assert all(p != s for p, s in pairs)
    assert len(set(pairs)) > 0.9 * len(pairs), "epochs should pair blocks anew"
    in_epoch = len(pairs) // 2
    assert len({s for _, s in pairs[:in_epoch]}) > 0.9 * in_epoch


def test_permuted_positives_share_documents_no_more_than_their_negatives(letters):
    """Were negatives masked, a suffix of the prefix's own document would tell the positive."""
    grid = GridConfig(prefixes=16, permute_positives=True)
    stream = GridStream([letters], SPLIT, grid, seed=0)
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        np.testing.assert_array_equal(batch.negatives[0], ~np.eye(16, dtype=bool))
        assert (batch.positive == np.arange(16)).all()


def test_permuted_positives_of_sought_neighbours_come_from_anywhere(letters):
    grid = dataclasses.replace(GRID, same_document="seek", order="corpus", permute_positives=True)
    batch = GridStream([letters], SPLIT, grid, seed=0).batch(1)
    of_p, of_s = halves_of(letters, batch)
    np.testing.assert_array_equal(of_p.ravel(), np.arange(16, 32))
    assert (np.abs(of_s - of_p) > 4).mean() > 0.5
    assert (np.diff(of_s) == 1).mean() < 0.5
    assert (batch.negatives == OTHERS).all()


@pytest.mark.parametrize("breakpoint_", ["random", "sentence"])
def test_moving_breakpoints_vary_prefixes_alone_and_stay_with_their_blocks(corpus, breakpoint_):
    config = SplitConfig(3, 3, breakpoint_, reach=2)
    stream, order = GridStream([corpus], config, GRID, seed=0), Order([len(corpus)], GRID, seed=0)
    rows, cut_at = corpus.read(range(len(corpus))).tokens, {}
    for step in range(3 * stream.steps_per_epoch):
        tokens, blocks = stream.batch(step).tokens, order(step)
        assert (tokens.suffix_lengths == 3).all()
        assert tokens.suffixes.shape == (4, 4, 3)
        for at in np.ndindex(4, 4):
            row, length = rows[blocks[at]], int(tokens.prefix_lengths[at])
            np.testing.assert_array_equal(tokens.prefixes[at][:length], row[:length])
            np.testing.assert_array_equal(tokens.suffixes[at], row[length : length + 3])
            assert cut_at.setdefault(int(blocks[at]), length) == length
    assert len(cut_at) == len(corpus)
    assert set(cut_at.values()) == {1, 2, 3, 4, 5}


def test_another_seed_cuts_at_other_random_breakpoints(corpus):
    grid, config = dataclasses.replace(GRID, order="corpus"), SplitConfig(3, 3, "random", reach=2)
    one, other = (GridStream([corpus], config, grid, seed).batch(0).tokens for seed in (0, 1))
    assert not np.array_equal(one.prefix_lengths, other.prefix_lengths)


def test_the_share_of_blocks_cut_at_sentence_ends_is_told_where_they_are_asked_for(sentences):
    config = SplitConfig(4, 2, "sentence", reach=1)
    ends = SentenceEnds(sentences.tokens())(sentences.read(range(len(sentences))).tokens)
    share = GridStream([sentences], config, GRID, seed=0).share_at_sentence_ends
    assert share == pytest.approx(ends[:, 2:5].any(axis=1).mean())
    assert 0 < share < 1
    for other in ("fixed", "random"):
        config = SplitConfig(4, 2, other, reach=1)
        assert GridStream([sentences], config, GRID, seed=0).share_at_sentence_ends is None


HUMAN_ASSISTANT = TemplateConfig("human_assistant")


@pytest.mark.parametrize("breakpoint_", ["fixed", "random"])
@pytest.mark.parametrize("permuted", [False, True])
def test_a_batch_holds_the_template_around_its_prefixes_and_behind_its_suffixes(
    corpus, breakpoint_, permuted
):
    config = SplitConfig(3, 3, breakpoint_, reach=2)
    grid = dataclasses.replace(GRID, permute_positives=permuted)
    plain = GridStream([corpus], config, grid, seed=0).batch(1)
    batch = GridStream([corpus], config, grid, 0, HUMAN_ASSISTANT).batch(1)
    parts = corpus.tokens().encode(["\n\nHuman: ", "\n\nAssistant: ", "\n\n"])
    before, between, after = parts
    assert min(map(len, parts)) > 1
    for at in np.ndindex(4, 4):
        own = plain.tokens.prefixes[at][: plain.tokens.prefix_lengths[at]].tolist()
        length = batch.tokens.prefix_lengths[at]
        assert batch.tokens.prefixes[at][:length].tolist() == before + own + between
        assert not batch.tokens.prefixes[at][length:].any()
        suffix = plain.tokens.suffixes[at].tolist()
        assert batch.tokens.suffixes[at].tolist() == suffix + after
        assert batch.tokens.suffix_lengths[at] == 3 + len(after)
    np.testing.assert_array_equal(batch.negatives, plain.negatives)


def test_an_open_template_has_nothing_behind_the_suffix(corpus):
    open_form = TemplateConfig("human_assistant", close=False)
    batch = GridStream([corpus], SPLIT, GRID, 0, open_form).batch(0)
    plain = GridStream([corpus], SPLIT, GRID, 0).batch(0)
    np.testing.assert_equal(batch.tokens.suffixes, plain.tokens.suffixes)
    np.testing.assert_equal(batch.tokens.suffix_lengths, plain.tokens.suffix_lengths)
    assert (batch.tokens.prefix_lengths > plain.tokens.prefix_lengths).all()


def test_the_work_of_a_step_counts_prefixes_once_and_suffixes_under_each(corpus):
    grid = GridConfig(prefixes=4, grids_per_step=3)
    assert GridStream([corpus], SplitConfig(5, 2), grid, seed=0).work == Work(
        pairs=48,
        unique_tokens=12 * 7,
        tokens=12 * 5 + 48 * 2,
        prefix_length=5,
        suffix_length=2,
    )
    moving = SplitConfig(4, 2, "random", reach=2)
    before, between, after = map(len, Template(HUMAN_ASSISTANT, corpus.tokens()).wrapping())
    assert GridStream([corpus], moving, grid, 0, HUMAN_ASSISTANT).work == Work(
        pairs=48,
        unique_tokens=12 * 6,
        tokens=12 * (before + 6 + between) + 48 * (2 + after),
        prefix_length=before + 4 + between,
        suffix_length=2 + after,
    )
    assert BlockStream([corpus], grid, seed=0).work == Work(0, 12 * 8, 12 * 8, 0, 8)


def test_whole_blocks_come_in_the_order_of_their_grids_with_their_documents_told_apart(corpus):
    stream, order = BlockStream([corpus], GRID, seed=0), Order([len(corpus)], GRID, seed=0)
    rows, end_id, most = corpus.read(range(len(corpus))).tokens, corpus.tokens().end_id, 0
    assert stream.steps_per_epoch == len(corpus) // 16
    for step in range(stream.steps_per_epoch + 1):
        batch = stream.batch(step)
        assert batch.tokens.shape == batch.segments.shape == (4, 4, 8)
        assert batch.segments.dtype == np.int32
        np.testing.assert_array_equal(batch.tokens, rows[order(step)])
        for at in np.ndindex(4, 4):
            expected, number = [], 0
            for token in batch.tokens[at]:
                expected.append(number)
                number += token == end_id
            assert batch.segments[at].tolist() == expected
            most = max(most, expected[-1])
    assert most > 1, "the test corpus should have short documents"
    assert stream.share_at_sentence_ends is None


def test_blocks_are_a_function_of_seed_and_step_and_hosts_read_their_part(corpus):
    stream = BlockStream([corpus], GRID, seed=0)
    steps = range(2 * stream.steps_per_epoch + 1)
    forward = [stream.batch(step) for step in steps]
    for step in reversed(steps):
        np.testing.assert_equal(BlockStream([corpus], GRID, seed=0).batch(step), forward[step])
    np.testing.assert_equal(list(stream.read(2, 5)), forward[2:5])
    hosts = [next(stream.read(3, 4, slice(host, host + 2))) for host in (0, 2)]
    np.testing.assert_equal(tuple(map(np.concatenate, zip(*hosts, strict=True))), tuple(forward[3]))
    other = BlockStream([corpus], GRID, seed=1).batch(0)
    assert not np.array_equal(other.tokens, forward[0].tokens)
    epoch = stream.steps_per_epoch
    assert not np.array_equal(forward[epoch].tokens, forward[0].tokens)


def test_a_corpus_with_too_few_blocks_for_a_step_of_them_is_refused(corpus):
    assert BlockStream([corpus], GridConfig(len(corpus)), seed=0).steps_per_epoch == 1
    with pytest.raises(UserError, match=f"{len(corpus)} blocks are fewer than the"):
        BlockStream([corpus], GridConfig(len(corpus) // 2 + 1, 2), seed=0)
