"""Words: those that two texts share, and hashes of words in a row, the same on every machine."""

import functools
import hashlib
import re

import numpy as np
from jaxtyping import UInt64

WORD = re.compile(r"\w+")
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Of the polynomial over a run's words: odd, so that no word's bits are lost modulo 2**64."""
REMEMBERED = 1 << 16
"""Words whose hashes are kept in memory, about 16 MB a process; most words of a text are common."""


def words_of(text: str) -> set[str]:
    """A text's distinct words: letters, digits and underscores in a row, in lower case."""
    return set(WORD.findall(text.lower()))


def share_in(words: set[str], others: set[str]) -> float:
    """The share of words that are among others; 0 of none."""
    return len(words & others) / max(len(words), 1)


def run_hashes(text: str, length: int) -> UInt64[np.ndarray, " R"]:
    """A 64-bit hash of every run of `length` words, in the text's order.

    Words are letters, digits and underscores in a row, lower-cased; what stands
    between them is not seen. A shorter text is one run of the words it has, a
    text without words has no run.
    """
    found = WORD.findall(text.lower())
    words = np.fromiter(map(_word_hash, found), np.uint64, len(found))
    count = max(len(words) - length + 1, min(len(words), 1))
    hashes = np.zeros(count, np.uint64)
    for at in range(min(length, len(words))):
        hashes *= FACTOR
        hashes += words[at : at + count]
    return hashes


@functools.lru_cache(REMEMBERED)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
