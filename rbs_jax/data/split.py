"""A block to its prefix and suffix."""

import dataclasses
import re
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from rbs_jax.data.template import Wrapping
from rbs_jax.data.tokens import Tokens
from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Where a block is cut, and how much of it is used."""

    prefix_length: int = 64
    """L1, ids before the breakpoint, on average if it moves [tokens]."""
    suffix_length: int = 64
    """L2, ids after it [tokens]; always exactly this many, so that a length tells nothing."""
    breakpoint: Literal["fixed", "random", "sentence"] = "fixed"
    """At L1, uniform around it, or at the end of the sentence that ends nearest to it."""
    reach: int = 16
    """How far from L1 a random or sentence breakpoint may lie, either way [tokens]."""

    def __post_init__(self) -> None:
        if self.prefix_length < 1 or self.suffix_length < 1:
            raise UserError("split.prefix_length and suffix_length must be at least 1")
        if self.breakpoint != "fixed" and not 1 <= self.reach < self.prefix_length:
            raise UserError(
                f"split.reach is {self.reach}, it must be at least 1 and below "
                f"split.prefix_length {self.prefix_length}"
            )

    @property
    def longest_prefix(self) -> int:
        """The farthest breakpoint, and so the length prefixes are padded to [tokens]."""
        return self.prefix_length + (0 if self.breakpoint == "fixed" else self.reach)

    @property
    def tokens_used(self) -> int:
        """Ids that a block must hold [tokens]."""
        return self.longest_prefix + self.suffix_length


class Halves(NamedTuple):
    """Blocks, cut."""

    prefixes: Int[np.ndarray, "B C"]
    """Padded behind with zeros to the longest."""
    prefix_lengths: Int[np.ndarray, " B"]
    suffixes: Int[np.ndarray, "B T"]


def wrapped(halves: Halves, wrapping: Wrapping) -> Halves:
    """Halves inside a template: what stands around each prefix, and behind each suffix."""
    before, between, after = (np.array(ids, np.int32) for ids in wrapping)
    count, longest = halves.prefixes.shape
    lengths = halves.prefix_lengths + len(before)
    prefixes = np.zeros((count, len(before) + longest + len(between)), np.int32)
    prefixes[:, : len(before)] = before
    prefixes[:, len(before) : len(before) + longest] = halves.prefixes
    rows, columns = np.arange(count)[:, None], lengths[:, None] + np.arange(len(between))
    prefixes[rows, columns] = between
    suffixes = np.concatenate([halves.suffixes, np.tile(after, (count, 1))], axis=1)
    return Halves(prefixes, (lengths + len(between)).astype(np.int32), suffixes)


class Splitter:
    """Cuts blocks as a config says, each by its ids, its place in the corpus and the seed."""

    def __init__(self, config: SplitConfig, seed: int, tokens: Tokens) -> None:
        """`tokens` says where sentences end; other breakpoints do not ask."""
        self.config, self._seed = config, seed
        self._ends = SentenceEnds(tokens) if config.breakpoint == "sentence" else None

    def __call__(self, tokens: Int[np.ndarray, "B N"], indices: Int[np.ndarray, " B"]) -> Halves:
        """Prefixes and suffixes of blocks, given where in the corpus each stands."""
        at = self._breakpoints(tokens, indices)[:, None]
        columns = np.arange(self.config.longest_prefix)
        prefixes = np.where(columns < at, tokens[:, : len(columns)], 0)
        suffixes = np.take_along_axis(tokens, at + np.arange(self.config.suffix_length), axis=1)
        return Halves(prefixes, at[:, 0].astype(np.int32), suffixes)

    def _breakpoints(
        self, tokens: Int[np.ndarray, "B N"], indices: Int[np.ndarray, " B"]
    ) -> Int[np.ndarray, " B"]:
        middle, reach = self.config.prefix_length, self.config.reach
        if self.config.breakpoint == "random":
            return middle - reach + _hashes(self._seed, indices) % (2 * reach + 1)
        if self._ends is None:
            return np.full(len(tokens), middle)
        ends = self._ends_in_reach(self._ends, tokens)
        distance = np.abs(np.arange(ends.shape[1]) - reach)
        # Without any end in reach, all are equally far, and L1 it is.
        cost = np.where(ends, distance, 2 * reach + distance)
        return middle - reach + cost.argmin(axis=1)

    def _ends_in_reach(
        self, ends: "SentenceEnds", tokens: Int[np.ndarray, "B N"]
    ) -> Bool[np.ndarray, "B M"]:
        middle, reach = self.config.prefix_length, self.config.reach
        return ends(tokens[:, middle - reach - 1 : middle + reach + 1])

    def share_at_sentence_ends(self, tokens: Int[np.ndarray, "B N"]) -> float | None:
        """The share of blocks with a sentence's end in reach; the others are cut at L1.

        None where breakpoints ask for no sentence.
        """
        if self._ends is None:
            return None
        return float(self._ends_in_reach(self._ends, tokens).any(axis=1).mean())


def _hashes(seed: int, indices: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """A number for each block, the same on every machine and numpy version."""
    states = [np.random.SeedSequence((seed, int(i))).generate_state(1)[0] for i in indices]
    return np.array(states, np.int64)


STOP = "[.?!][\"'\u201d\u2019)\\]}]*"
"""A regular expression for what ends a sentence: a mark, then quotes and brackets that close."""


class SentenceEnds:
    """Where sentences end in ids, told by the text of each two neighbours.

    After a full stop, question or exclamation mark (closing quotes and brackets
    may follow it in the same token) before white space; after a blank line; after
    a document's end. An abbreviation's full stop counts too.
    """

    def __init__(self, tokens: Tokens) -> None:
        """Looks at every token of the vocabulary once."""
        texts = tokens.pieces()
        self._stops = np.array([bool(re.search(f"{STOP}$", text)) for text in texts])
        self._opens = np.array([text[:1].isspace() for text in texts])
        self._new_lines = np.array([[text[:1] == "\n", text[-1:] == "\n"] for text in texts]).T
        closed = rf"({STOP}\s+|\n\s*\n\s*)$"
        self._closed = np.array([bool(re.search(closed, text)) for text in texts])
        self._closed[tokens.end_id] = self._opens[tokens.end_id] = True

    def __call__(self, tokens: Int[np.ndarray, "B N"]) -> Bool[np.ndarray, "B M"]:
        """Whether a sentence ends between each id and the next, [B, N - 1]."""
        before, after = tokens[:, :-1], tokens[:, 1:]
        starts, ends = self._new_lines
        stopped = self._stops[before] & self._opens[after]
        return self._closed[before] | stopped | (ends[before] & starts[after])
