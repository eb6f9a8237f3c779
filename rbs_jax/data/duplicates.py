"""Which documents repeat an earlier one, exactly or nearly."""

import hashlib
import operator
from collections.abc import Iterator, Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH
from jaxtyping import Float64, Int64, UInt8, UInt32, UInt64

from rbs_jax.data.words import FACTOR, run_hashes

SHINGLE = 5
"""Words in a row that are one element of the set which stands for a document [words]."""
PERMUTATIONS = 128
"""Numbers in a signature: the similarity of two is known to about 0.04."""
PIVOTS = 256
"""Documents of a group that all others of it are compared with; bounds the time of huge groups."""
AT_ONCE = 1 << 14
"""Rows that are held in memory beside the signatures at a time: shingles, or pairs."""
_EMPTY = MinHash(PERMUTATIONS, seed=1, hashfunc=operator.index, scheme="affine32")


def digest(text: str) -> bytes:
    """16 bytes that equal texts have in common.

    Texts are equal when their characters are, letter case and punctuation too,
    but for white space: around the text it does not count, and any run of it
    inside is as good as one space.
    """
    content = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).digest()


def signature(text: str) -> UInt32[np.ndarray, " K"]:
    """The MinHash of a text's runs of 5 words: 512 bytes.

    The share of equal numbers in two signatures estimates the Jaccard similarity
    of the two sets of runs. A text of fewer than 5 words is one run, so it is alike
    only to a text of the same words; what `first_of_alike` does with a text
    without words is said there.
    """
    sketch = _EMPTY.copy()
    # datasketch hashes one element at a time; ours are hashes already, and the index of an
    # integer is itself. It mixes 32 bits, of which the polynomial's upper ones are the best.
    shingles = (run_hashes(text, SHINGLE) >> np.uint64(32)).tolist()
    for start in range(0, len(shingles), AT_ONCE):
        sketch.update_batch(shingles[start : start + AT_ONCE])
    return sketch.hashvalues


def first_of_equals(digests: UInt8[np.ndarray, "N 16"]) -> Int64[np.ndarray, " N"]:
    """For each document the number of the first with the same digest, its own if it is the first.

    Args:
      digests: of all documents, in the corpus's order.

    Takes about 50 bytes of memory a document beside the digests.
    """
    halves = np.ascontiguousarray(digests).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    first = np.empty(len(digests), np.int64)
    first[order] = order[_starts(halves[order])]
    return first


def first_of_alike(
    signatures: Sequence[UInt32[np.ndarray, "_ K"]], threshold: float
) -> Int64[np.ndarray, " N"]:
    """For each document the number of the first of its cluster, its own if it is the first.

    Two documents whose signatures agree in at least `threshold` of their numbers
    are in one cluster, and with them whatever is alike to either. Such pairs are
    looked for among documents that agree in a whole band of numbers; datasketch
    chooses bands that miss few. Of more than 256 documents with one band in common
    only the first 256 are compared with all others. Documents without words are
    alike to none.

    Args:
      signatures: of all documents, in the corpus's order, as arrays or memory maps of one or
        more parts; where parts end makes no difference.
      threshold: the least similarity, above 0 and at most 1.

    Takes about 80 bytes of memory a document and 25 MB, and reads the signatures once a band
    (14 at 0.8), then those of candidates.
    """
    rows = _Rows(signatures)
    clusters = _Clusters(len(rows))
    documents = rows.with_words()
    # Equal signatures first, and of those only one goes on: copies, however many, then cost
    # nothing and crowd nobody out.
    _join_alike(rows, slice(0, rows.width), documents, threshold, clusters)
    documents = documents[clusters.firsts(documents) == documents]
    # A pair is compared before it counts: one too many costs time, one missed is a duplicate.
    bands = MinHashLSH(threshold, rows.width, weights=(0.1, 0.9))
    for start in range(0, bands.b * bands.r, bands.r):
        _join_alike(rows, slice(start, start + bands.r), documents, threshold, clusters)
    return clusters.firsts(np.arange(len(rows)))


def _join_alike(
    rows: "_Rows",
    band: slice,
    documents: Int64[np.ndarray, " M"],
    threshold: float,
    clusters: "_Clusters",
) -> None:
    """Join the documents that agree in a band, where they are alike as a whole."""
    for one, other in _candidates(rows.keys(band)[documents], documents, clusters):
        alike = rows.agreement(one, other) >= threshold
        clusters.join(one[alike], other[alike])


def _candidates(
    keys: UInt64[np.ndarray, " M"], documents: Int64[np.ndarray, " M"], clusters: "_Clusters"
) -> Iterator[tuple[Int64[np.ndarray, " Q"], Int64[np.ndarray, " Q"]]]:
    """Pairs of documents with equal keys, not yet in one cluster, some at a time."""
    order = np.argsort(keys, kind="stable")
    documents, starts = documents[order], _starts(keys[order, None])
    places = np.arange(len(documents))
    for pivot in range(PIVOTS):
        # Of each group of equal keys what is left, unless it is one cluster already.
        places = places[places >= starts[places] + pivot]
        groups, firsts = starts[places], clusters.firsts(documents[places])
        split = (groups[1:] == groups[:-1]) & (firsts[1:] != firsts[:-1])
        unfinished = np.zeros(len(documents), bool)
        unfinished[groups[1:][split]] = True
        places = places[unfinished[groups]]
        if not len(places):
            return
        one, other = documents[starts[places] + pivot], documents[places]
        apart = clusters.firsts(one) != clusters.firsts(other)
        one, other = one[apart], other[apart]
        for at in range(0, len(one), AT_ONCE):
            yield one[at : at + AT_ONCE], other[at : at + AT_ONCE]


def _starts(ordered: UInt64[np.ndarray, "N C"]) -> Int64[np.ndarray, " N"]:
    """For each row of a sorted array, where the first of its equals stands."""
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.maximum.accumulate(np.where(new, np.arange(len(ordered)), 0))


class _Rows:
    """The signatures of all parts as one array that is never in memory as a whole."""

    def __init__(self, parts: Sequence[UInt32[np.ndarray, "_ K"]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.width = parts[0].shape[1]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _blocks(self) -> Iterator[UInt32[np.ndarray, "_ K"]]:
        for part in self._parts:
            for at in range(0, len(part), AT_ONCE):
                yield part[at : at + AT_ONCE]

    def with_words(self) -> Int64[np.ndarray, " M"]:
        """The documents that are not what datasketch says of an empty set."""
        worded = [(block != _EMPTY.hashvalues[0]).any(axis=1) for block in self._blocks()]
        return np.flatnonzero(np.concatenate(worded))

    def keys(self, band: slice) -> UInt64[np.ndarray, " N"]:
        """A hash of a band of columns, for every document."""
        keys = []
        for block in self._blocks():
            key = np.zeros(len(block), np.uint64)
            for column in block[:, band].T:
                key *= FACTOR
                key += column
            keys.append(key)
        return np.concatenate(keys)

    def agreement(
        self, one: Int64[np.ndarray, " Q"], other: Int64[np.ndarray, " Q"]
    ) -> Float64[np.ndarray, " Q"]:
        """The share of numbers in which two documents' signatures are equal, for each pair."""
        return (self._take(one) == self._take(other)).mean(axis=1)

    def _take(self, documents: Int64[np.ndarray, " Q"]) -> UInt32[np.ndarray, "Q K"]:
        taken = np.empty((len(documents), self.width), np.uint32)
        parts = np.searchsorted(self._ends, documents, side="right")
        for number in np.unique(parts):
            part, here = self._parts[number], parts == number
            taken[here] = part[documents[here] - (self._ends[number] - len(part))]
        return taken


class _Clusters:
    """Documents in clusters, each known by its first document."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)  # an earlier document of the cluster, or itself

    def firsts(self, documents: Int64[np.ndarray, " Q"]) -> Int64[np.ndarray, " Q"]:
        """The first of each document's cluster."""
        first = self._parent[documents]
        while (further := self._parent[first] != first).any():
            first[further] = self._parent[first[further]]
        self._parent[documents] = first  # a shorter way for the next who asks
        return first

    def join(self, one: Int64[np.ndarray, " Q"], other: Int64[np.ndarray, " Q"]) -> None:
        """Make one cluster of the two of each pair."""
        for pair in zip(one.tolist(), other.tolist(), strict=True):
            low, high = sorted(map(self._first, pair))
            self._parent[high] = low

    def _first(self, document: int) -> int:
        while (parent := int(self._parent[document])) != document:
            self._parent[document] = self._parent[parent]
            document = parent
        return document
