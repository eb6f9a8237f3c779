import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from rbs_jax.data.reader import Blocks, Corpus
from rbs_jax.eval import corpus as corpus_module
from rbs_jax.eval.corpus import (
    bucket_edges,
    document_lengths,
    duplicates,
    measure_blocks,
    sample_runs,
    summary,
)

END, BLOCK = 9, 4


class Listed(Corpus):
    """A corpus in memory, whose documents have every third number."""

    def __init__(self, shards):
        """Each shard is the lengths of its documents."""
        tokens, documents, number = [], [], 0
        self.whole, self.cut = [], 0
        for lengths in shards:
            ids, owners = [], []
            for length in lengths:
                ids += [1] * length + [END]
                owners += [number] * (length + 1)
                number += 3
            kept = len(ids) // BLOCK * BLOCK
            tokens += ids[:kept]
            documents += [(owners[at], owners[at + BLOCK - 1]) for at in range(0, kept, BLOCK)]
            ends = np.cumsum(np.array(lengths) + 1)
            self.whole += [n for n, end in zip(lengths, ends, strict=True) if end <= kept]
            self.cut += sum(end - n - 1 < kept < end for n, end in zip(lengths, ends, strict=True))
        self._tokens, self._documents = np.array(tokens).reshape(-1, BLOCK), np.array(documents)
        self.manifest = SimpleNamespace(block_length=BLOCK)
        self.was_read = []

    def __len__(self):
        return len(self._tokens)

    def read(self, indices):
        self.was_read += indices
        return Blocks(self._tokens[list(indices)], self._documents[list(indices)])

    def tokens(self):
        return SimpleNamespace(end_id=END, decode=lambda rows: ["x" * sum(row) for row in rows])


SHARDS = {
    "one": [[1, 2, 3, 30, 1, 1]],
    "a document ends with its block": [[3, 3, 7, 1, 1]],
    "a shard ends with its block": [[3, 3], [2, 4]],
    "a shard cuts a document": [[5, 9], [1, 20, 2], [11, 1, 1]],
    "a shard cuts a document in its first block": [[2, 9], [4, 4]],
    "a document is left over whole": [[4, 2, 0], [8]],
}


@pytest.mark.parametrize("shards", SHARDS.values(), ids=SHARDS)
@pytest.mark.parametrize("length", [1, 2, 3, 100])
def test_each_document_counts_once_at_its_full_length_however_blocks_are_read(shards, length):
    corpus = Listed(shards)
    assert corpus.cut or shards not in list(SHARDS.values())[3:5], "a case that shows nothing"
    whole, cut = [], 0
    for start in range(0, len(corpus), length):
        run = range(start, min(start + length, len(corpus)))
        found = document_lengths(corpus, run, corpus.read(run), END)
        whole += found.whole
        cut += found.cut
    assert (whole, cut) == (corpus.whole, corpus.cut)


def test_a_long_document_is_followed_to_its_end_by_few_reads():
    corpus = Listed([[1, 100_000, 1]])
    found = document_lengths(corpus, range(1), corpus.read(range(1)), END)
    assert found.whole == [1, 100_000]
    assert len(corpus.was_read) < 30


def test_all_blocks_are_read_where_they_are_few():
    for blocks in (1, 99, 100, 101, 20_000):
        runs = sample_runs(blocks, 128)
        assert [block for run in runs for block in run] == list(range(blocks))
        assert len(runs) <= 100


@pytest.mark.parametrize(
    ("blocks", "length", "most"), [(20_001, 128, 20_000), (10**9, 128, 20_000), (10**6, 2**16, 64)]
)
def test_of_many_blocks_evenly_spread_runs_are_read(blocks, length, most):
    runs = sample_runs(blocks, length)
    assert sum(map(len, runs)) == most
    assert runs[0].start == 0
    assert runs[-1].stop == blocks
    gaps = [after.start - before.start for before, after in itertools.pairwise(runs)]
    assert min(gaps) >= len(runs[0])
    assert max(gaps) - min(gaps) <= 1
    assert len({len(run) for run in runs}) == 1


def test_a_block_longer_than_the_whole_sample_is_read_all_the_same():
    assert sample_runs(5, 2**23) == [range(1)]


def test_no_more_than_the_sample_and_the_ends_of_its_documents_is_read(monkeypatch):
    monkeypatch.setattr(corpus_module, "MOST_BLOCKS", 20)
    monkeypatch.setattr(corpus_module, "RUNS", 4)
    corpus = Listed([[3] * 100_000])
    found = measure_blocks(corpus)
    assert found["sample"] == {"blocks": 20, "of": 100_000, "runs": 4}
    assert len(corpus.was_read) < 20 + 4 + 4 * 20
    lengths = found["lengths"]
    assert lengths["tokens_per_document"]["n"] == 20
    assert lengths["tokens_per_document"]["mean"] == 3
    assert lengths["documents_per_block"]["counts"] == [20]
    assert lengths["characters_per_block"]["mean"] == 3 + END
    assert found["duplicates"]["repeated"] == found["duplicates"]["n"] == 20


def test_documents_of_a_block_are_counted_by_their_ends():
    documents = measure_blocks(Listed([[0, 0, 0, 4, 0, 1, 5]]))["lengths"]["documents_per_block"]
    # Blocks ...x | xxx. | .x.x | xxxx, where a dot is an end.
    assert (documents["n"], documents["max"]) == (4, 4)
    assert documents["edges"] == [1, 2, 3, 4, 5]
    assert documents["counts"] == [2, 0, 1, 1]


@pytest.mark.parametrize(
    ("least", "most", "edges"),
    [
        (3, 3, [3, 4]),
        (0, 2, [0, 1, 2, 3]),
        (1, 12, list(range(1, 14))),
        (5, 17, [4, 6, 8, 10, 12, 14, 16, 18]),
        (193, 706, list(range(150, 751, 50))),
        (10, 160, [8, 16, 32, 64, 128, 256]),
        (0, 16, [0, 1, 2, 4, 8, 16, 32]),
        (8, 128, [8, 16, 32, 64, 128, 256]),
    ],
)
def test_buckets_are_few_and_round_and_double_where_values_span_much(least, most, edges):
    assert bucket_edges(least, most) == edges


@pytest.mark.parametrize("values", [[4], [1, 1, 2], [10, 159, 160], [0, 16], [8, 255, 256]])
def test_a_summary_counts_every_value_in_its_bucket(values):
    found = summary(values)
    buckets = list(itertools.pairwise(found["edges"]))
    assert found["counts"] == [sum(low <= v < high for v in values) for low, high in buckets]
    assert sum(found["counts"]) == found["n"] == len(values)
    assert (found["min"], found["max"]) == (values[0], values[-1])
    assert found["median"] == np.median(values)


def test_a_summary_of_nothing_says_so():
    assert summary([])["n"] == 0
    assert summary([])["mean"] is None


def test_blocks_alike_are_counted():
    rows = np.random.default_rng(0).integers(4096, size=(8, 64)).astype(np.int32)
    rows[5] = rows[0]  # two repeated
    rows[6, 3:53] = rows[1, 14:64]  # a run of 50, elsewhere
    rows[7, :49] = rows[2, 15:]  # one id short
    rows[3] = 7  # a run that only one block repeats
    assert duplicates(rows) == {"n": 8, "repeated": 2, "run": 50, "sharing": 4}
    rows[7, 49] = rows[2, 63]
    assert duplicates(rows)["sharing"] == 4
    rows[4, -50:] = 7
    assert duplicates(rows)["sharing"] == 6
    swapped = np.array([[1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 2, 2], [0, 1, 2]], np.int32)
    assert duplicates(swapped) == {"n": 5, "repeated": 0, "run": 50, "sharing": None}
