"""Batches of mixtures, and of corpora in buckets."""

import dataclasses

import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.mixture import Mixture
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.stream import BlockStream, GridStream
from rbs_jax.errors import UserError

SPLIT = SplitConfig(prefix_length=4, suffix_length=4)
GRID = GridConfig(prefixes=4, grids_per_step=4)
SPLITS = {"fixed": SPLIT, "random": SplitConfig(3, 3, "random", reach=2)}
WEIGHTS = (0.7, 0.3)


def mixed(kind, corpora, order="shuffled", grids=4):
    """A stream of grids or of blocks over several corpora."""
    grid = GridConfig(4, grids, order, window=20)
    if kind == "blocks":
        return BlockStream(corpora, grid, seed=0, weights=WEIGHTS[: len(corpora)])
    return GridStream(corpora, SPLITS[kind], grid, seed=0, weights=WEIGHTS[: len(corpora)])


def drawn_of(corpora, grid):
    """The mixture that such a stream draws from."""
    shards = [one.shard_blocks for one in corpora]
    return Mixture(shards, WEIGHTS[: len(corpora)], grid, seed=0)


@pytest.fixture(scope="module")
def second(tmp_path_factory, texts, tokens):
    """Other blocks of 8, by the same tokenizer."""
    folder = tmp_path_factory.mktemp("second") / "train"
    write_corpus(texts[1::2], folder, tokens, 8, {})
    return Corpus(folder)


def leaves(batch):
    """All arrays of a batch."""
    return [leaf for part in batch for leaf in (part if isinstance(part, tuple) else (part,))]


@pytest.mark.parametrize("order", ["shuffled", "windows", "corpus"])
@pytest.mark.parametrize("kind", ["fixed", "random", "blocks"])
def test_a_grid_of_a_mixture_is_the_next_of_its_corpus_s_own(corpus, second, kind, order):
    both = [corpus, second]
    mixture = drawn_of(both, GridConfig(4, 4, order, window=20))
    stream = mixed(kind, both, order)
    own, seen = [mixed(kind, [one], order, grids=1) for one in both], [0, 0]
    for step in range(12):
        expected = []
        for at in mixture(step).corpora.tolist():
            expected.append(leaves(own[at].batch(seen[at])))
            seen[at] += 1
        joined = map(np.concatenate, zip(*expected, strict=True))
        np.testing.assert_equal(leaves(stream.batch(step)), list(joined))
    assert min(seen) > 10


@pytest.mark.parametrize("kind", ["fixed", "blocks"])
@pytest.mark.parametrize("count", [1, 2])
def test_hosts_read_their_rows_alone_and_together_the_batch_of_one(
    corpus, second, monkeypatch, kind, count
):
    both, asked, read = [corpus, second][:count], [], Corpus.read

    def counted(self, indices):
        asked.extend((self.folder, index) for index in indices)
        return read(self, indices)

    monkeypatch.setattr(Corpus, "read", counted)
    stream = mixed(kind, both)
    for step in (0, 5, 2 * stream.steps_per_epoch + 1):
        del asked[:]
        whole = leaves(stream.batch(step))
        all_rows = sorted(asked)
        assert len(all_rows) == 16
        drawn = drawn_of(both, GridConfig(4, 4))(step)
        for hosts in (2, 4):
            parts, rows = [], []
            for host in range(hosts):
                del asked[:]
                grids = slice(host * 4 // hosts, (host + 1) * 4 // hosts)
                parts.append(leaves(stream.batch(step, grids)))
                of = [both[at].folder for at in drawn.corpora[grids]]
                wanted = [
                    (folder, block)
                    for folder, blocks in zip(of, drawn.blocks[grids].tolist(), strict=True)
                    for block in blocks
                ]
                assert sorted(asked) == sorted(wanted)
                rows += asked
            assert sorted(rows) == all_rows
            joined = list(map(np.concatenate, zip(*parts, strict=True)))
            np.testing.assert_equal(joined, whole)


def test_permuted_positives_of_a_mixture_stay_in_their_corpus(corpus, second):
    grid = GridConfig(4, 4, permute_positives=True)
    both = [corpus, second]
    stream, mixture = (
        GridStream(both, SPLIT, grid, 0, None, WEIGHTS),
        drawn_of(both, GRID),
    )
    there = [
        {tuple(row) for row in one.read(range(len(one))).tokens[:, 4:].tolist()} for one in both
    ]
    for step in range(5):
        suffixes = stream.batch(step).tokens.suffixes.tolist()
        for at, of_grid in zip(mixture(step).corpora, suffixes, strict=True):
            assert {tuple(suffix) for suffix in of_grid} <= there[at]


def test_corpora_of_other_block_lengths_mix_for_grids_and_not_for_blocks(corpus, sharded):
    batch = GridStream([corpus, sharded], SPLIT, GRID, 0).batch(0)
    assert batch.tokens.prefixes.shape == (4, 4, 4)
    with pytest.raises(UserError, match=f"{sharded.folder}: blocks of 10 ids, .* --block-length 8"):
        BlockStream([corpus, sharded], GRID, 0)


def test_each_corpus_of_a_mixture_must_fill_a_grid_and_not_a_step(corpus, second):
    fewer = len(second)
    assert fewer < len(corpus)
    GridStream([corpus, second], SPLIT, GridConfig(fewer, 4), 0)
    with pytest.raises(UserError, match=rf"{second.folder}: .* lower --grid.prefixes$"):
        GridStream([corpus, second], SPLIT, GridConfig(fewer + 1, 1), 0)


def test_the_share_at_sentence_ends_of_a_mixture_is_by_turns(sentences, letters):
    config = SplitConfig(4, 2, "sentence", reach=1)
    alone = [
        GridStream([one], config, GRID, seed=0).share_at_sentence_ends
        for one in (sentences, letters)
    ]
    both = GridStream([sentences, letters], config, GRID, 0, None, WEIGHTS)
    assert alone[0] > alone[1] + 0.1
    assert both.share_at_sentence_ends == pytest.approx(0.7 * alone[0] + 0.3 * alone[1])


def test_batches_of_a_remote_corpus_are_those_of_its_files(sharded, bucket):
    url, grid = bucket(sharded), GridConfig(4, 2, "windows", window=20)
    for bound in (1.0, 1e-9):
        remote = GridStream([Corpus(url, bound)], SPLIT, grid, seed=0)
        local = GridStream([sharded], SPLIT, grid, seed=0)
        steps = 2 * local.steps_per_epoch
        np.testing.assert_equal(list(remote.read(0, steps)), list(local.read(0, steps)))


def test_shuffling_more_than_the_cache_holds_is_told_once(sharded, bucket, capfd):
    url = bucket(sharded)
    GridStream([Corpus(url)], SPLIT, GRID, seed=0).batch(0)
    small = Corpus(url, sharded.bytes / 1e9 * 0.9)
    windows = dataclasses.replace(GRID, order="windows")
    GridStream([small], SPLIT, windows, seed=0).batch(0)
    assert capfd.readouterr().err == ""
    GridStream([small], SPLIT, GRID, seed=0).batch(0)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"rbs: {url}: {sharded.bytes / 1e9:.2g} GB are more than the cache")
    assert "--grid.order windows" in line


def test_windows_fetch_few_shards_at_a_time(sharded, bucket, tmp_path):
    grid = GridConfig(4, 1, "windows", window=20)
    stream = GridStream([Corpus(bucket(sharded))], SPLIT, grid, seed=0)
    for step in range(3):
        stream.batch(step)
    assert len(list((tmp_path / "cache").glob("*/blocks-*"))) <= 4
