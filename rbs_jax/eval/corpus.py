"""What a corpus's blocks show: lengths and duplicates, over a sample of bounded size."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt64

from rbs_jax.data.reader import Blocks, Corpus

MOST_BLOCKS = 20_000
"""Blocks of a sample, at most."""
MOST_TOKENS = 2**22
"""Ids of a sample, at most [tokens]."""
RUNS = 100
"""Runs of consecutive blocks that a sample is made of, about."""
SHARED = 50
"""Ids in a row that make two blocks alike [tokens]."""
MOST_BUCKETS = 12
"""Buckets of a histogram, where its values do not span several orders of magnitude."""


def measure_blocks(corpus: Corpus) -> dict[str, Any]:
    """Lengths and duplicates of a corpus's blocks, read run by run.

    A document counts where it starts, and is followed to its end wherever that is,
    so that long ones are met no more and no less often than short ones.

    Returns:
      "sample": the blocks read, of how many, in how many runs; "lengths": a summary
      with a histogram of each; "duplicates": as `duplicates` counts them.
    """
    tokens = corpus.tokens()
    runs = sample_runs(len(corpus), corpus.manifest.block_length)
    lengths: list[int] = []
    documents: list[int] = []
    characters: list[int] = []
    cut, rows = 0, []
    for run in runs:
        blocks = corpus.read(run)
        found = document_lengths(corpus, run, blocks, tokens.end_id)
        lengths += found.whole
        cut += found.cut
        documents += (1 + (blocks.tokens[:, :-1] == tokens.end_id).sum(axis=1)).tolist()
        characters += map(len, tokens.decode(blocks.tokens.tolist()))
        rows.append(blocks.tokens)
    return {
        "sample": {"blocks": len(documents), "of": len(corpus), "runs": len(runs)},
        "lengths": {
            "tokens_per_document": {**summary(lengths), "cut": cut},
            "documents_per_block": summary(documents),
            "characters_per_block": summary(characters),
        },
        "duplicates": duplicates(np.concatenate(rows)),
    }


def sample_runs(blocks: int, block_length: int) -> list[range]:
    """Runs of consecutive blocks, all of the corpus or as many as are read, evenly spread."""
    count = min(blocks, MOST_BLOCKS, max(MOST_TOKENS // block_length, 1))
    length = math.ceil(count / RUNS)
    if count == blocks:
        return [range(at, min(at + length, blocks)) for at in range(0, blocks, length)]
    starts = np.linspace(0, blocks - length, count // length).round()
    return [range(int(at), int(at) + length) for at in starts]


class Lengths(NamedTuple):
    """Ids of documents, without the id that ends each."""

    whole: list[int]
    cut: int
    """Documents whose end is in no block, since a shard leaves its last ids over."""


def document_lengths(corpus: Corpus, run: range, blocks: Blocks, end_id: int) -> Lengths:
    """The lengths of the documents that start in a run of blocks, given the run's blocks."""
    ids, spans, length = blocks.tokens.ravel(), blocks.documents, blocks.tokens.shape[1]
    # A block that goes on with another document, though none ended: a shard ended there.
    borders = 1 + np.flatnonzero(spans[:-1, 1] != spans[1:, 0])
    shard_ends = borders[blocks.tokens[borders - 1, -1] != end_id] * length - 1
    stops = np.union1d(np.flatnonzero(ids == end_id), shard_ends)
    if _starts_fresh(corpus, run.start, int(spans[0, 0])):
        stops = np.concatenate([[-1], stops])
    if not len(stops):
        return Lengths([], 0)
    ended = ids[stops[1:]] == end_id
    whole = (np.diff(stops) - 1)[ended].tolist()
    cut = int((~ended).sum())
    if stops[-1] < len(ids) - 1:
        rest = _rest(corpus, run.stop, int(spans[-1, 1]), end_id)
        if rest is None:
            cut += 1
        else:
            whole.append(len(ids) - 1 - int(stops[-1]) + rest)
    return Lengths(whole, cut)


def _starts_fresh(corpus: Corpus, block: int, document: int) -> bool:
    """Whether a document, the first of a block, starts at that block's first id."""
    return block == 0 or int(corpus.read([block - 1]).documents[0, 1]) != document


def _rest(corpus: Corpus, start: int, document: int, end_id: int) -> int | None:
    """The ids that a document has from block `start` on; None where its end is in no block."""
    after = bisect_right(
        range(len(corpus)), document, lo=start, key=lambda i: corpus.read([i]).documents[0, 0]
    )
    if after == start:
        return None
    (last,) = corpus.read([after - 1]).tokens
    ends = np.flatnonzero(last == end_id)
    return None if not len(ends) else (after - 1 - start) * len(last) + int(ends[0])


def summary(values: Sequence[int]) -> dict[str, Any]:
    """How many, the least, median, mean and most, and a histogram.

    "edges" are where buckets start, and behind the last where it ends; "counts" are
    one fewer. Where there is no value, "n" is 0 and the others are None.
    """
    if not len(values):
        return {"n": 0} | dict.fromkeys(("min", "median", "mean", "max", "edges", "counts"))
    numbers = np.asarray(values)
    edges = bucket_edges(int(numbers.min()), int(numbers.max()))
    return {
        "n": len(numbers),
        "min": int(numbers.min()),
        "median": float(np.median(numbers)),
        "mean": float(numbers.mean()),
        "max": int(numbers.max()),
        "edges": edges,
        "counts": np.histogram(numbers, edges)[0].tolist(),
    }


def bucket_edges(least: int, most: int) -> list[int]:
    """Edges of buckets that hold whole numbers: equally wide, or doubling if they span much."""
    if most - least >= MOST_BUCKETS and most >= 16 * max(least, 1):
        powers = range(least.bit_length(), most.bit_length() + 1)
        return [2 ** (powers[0] - 1) if least else 0, *(2**power for power in powers)]
    width = 1
    for nice in (factor * 10**power for power in range(19) for factor in (1, 2, 5)):
        width = nice
        if most // width - least // width < MOST_BUCKETS:
            break
    return list(range(least // width * width, most + width + 1, width))


def duplicates(tokens: Int[np.ndarray, "B N"]) -> dict[str, Any]:
    """How many of some blocks hold the same ids as another, or a run of ids that another holds.

    Returns:
      "n": blocks; "repeated": those whose ids another has too; "run": ids of a run [tokens];
      "sharing": blocks with a run that another has too, None where blocks are shorter.
    """
    length = tokens.shape[1]
    # Equal runs have equal hashes; other runs too with a chance below n**2 / 2**50.
    draw = np.random.default_rng(0).integers(2**64, size=tokens.max() + 1, dtype=np.uint64)
    alike = None
    if length >= SHARED:
        alike = int(_shared(_window_hashes(draw, tokens, SHARED)).sum())
    return {
        "n": len(tokens),
        "repeated": int(_shared(_window_hashes(draw, tokens, length)).sum()),
        "run": SHARED,
        "sharing": alike,
    }


def _window_hashes(
    draw: UInt64[np.ndarray, " V"], tokens: Int[np.ndarray, "B N"], window: int
) -> UInt64[np.ndarray, "B M"]:
    """A hash of every run of `window` ids, [B, N - window + 1]."""
    count = tokens.shape[1] - window + 1
    hashes = np.zeros((len(tokens), count), np.uint64)
    for at in range(window):
        hashes *= np.uint64(0x9E3779B97F4A7C15)  # odd, so that nothing is lost
        hashes += draw[tokens[:, at : at + count]]
    return hashes


def _shared(hashes: UInt64[np.ndarray, "B M"]) -> np.ndarray:
    """Which rows hold a number that another row holds too, [B]."""
    rows, columns = np.sort(hashes, axis=1), hashes.shape[1]
    first = np.ones_like(rows, bool)
    first[:, 1:] = rows[:, 1:] != rows[:, :-1]  # what one row repeats counts once
    owners = np.repeat(np.arange(len(rows)), columns)[first.ravel()]
    _, inverse, counts = np.unique(rows[first], return_inverse=True, return_counts=True)
    shared = np.zeros(len(rows), bool)
    shared[owners[counts[inverse] > 1]] = True
    return shared
