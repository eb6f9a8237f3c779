import itertools
import subprocess
import sys

import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.stream import GridConfig, Stream
from rbs_jax.errors import UserError

SPLIT = SplitConfig(prefix_length=4, suffix_length=4)
GRID = GridConfig(prefixes=4, grids_per_step=4)


@pytest.fixture
def stream(corpus):
    return Stream(corpus, SPLIT, GRID, seed=0)


@pytest.fixture(scope="module")
def numbers(corpus):
    """A block's place in the corpus, by its ids."""
    rows = corpus.read(range(len(corpus))).tokens
    numbers = {tuple(row): number for number, row in enumerate(rows.tolist())}
    assert len(numbers) == len(corpus), "the test corpus repeats a block"
    return numbers


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
        np.testing.assert_equal(Stream(corpus, SPLIT, GRID, seed=0).batch(step), forward[step])


def test_another_seed_gives_another_order(corpus, stream, numbers):
    other = Stream(corpus, SPLIT, GRID, seed=1)
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


def test_the_slices_of_four_hosts_make_the_batch_of_one(stream):
    whole = stream.batch(3)
    hosts = [next(stream.read(3, 4, slice(host, host + 1))) for host in range(4)]
    for name in whole.tokens._fields:
        parts = [getattr(host.tokens, name) for host in hosts]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole.tokens, name))
    for name in ("positive", "negatives"):
        parts = [getattr(host, name) for host in hosts]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole, name))


def test_blocks_that_share_a_document_are_not_each_others_negatives(corpus, numbers):
    spans = corpus.read(range(len(corpus))).documents
    documents = [set(range(first, last + 1)) for first, last in spans.tolist()]
    stream = Stream(corpus, SPLIT, GridConfig(prefixes=16), seed=0)
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
    assert Stream(corpus, SPLIT, enough, seed=0).steps_per_epoch == 1
    for grid in (GridConfig(len(corpus) + 1), GridConfig(len(corpus) // 2 + 1, 2)):
        with pytest.raises(UserError, match=f"{len(corpus)} blocks are fewer than the"):
            Stream(corpus, SPLIT, grid, seed=0)


def test_blocks_shorter_than_prefix_and_suffix_are_refused(corpus):
    with pytest.raises(UserError, match="blocks of 8 ids are shorter than prefix \\+ suffix = 9"):
        Stream(corpus, SplitConfig(4, 5), GRID, seed=0)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 0)])
def test_a_grid_without_negatives_or_a_step_without_grids_is_refused(sizes):
    with pytest.raises(UserError, match="at least"):
        GridConfig(*sizes)


def test_the_data_room_starts_no_jax_backend():
    script = (
        "import rbs_jax.data.stream, jax._src.xla_bridge as bridge; assert not bridge._backends"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_corpus_of_one_document_is_refused_since_it_has_no_negatives(tmp_path, texts, tokens):
    write_corpus([" ".join(texts)], tmp_path / "one", tokens, 8, {})
    with pytest.raises(UserError, match="one document has no negatives"):
        Stream(Corpus(tmp_path / "one"), SPLIT, GRID, seed=0)
