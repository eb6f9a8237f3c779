"""Keep held-out documents that training text does not repeat."""

import re
from collections.abc import Iterable, Iterator

RUN = 13
"""Words in a row that two documents may not share [words]."""


def runs(text: str, length: int = RUN) -> Iterator[int]:
    """A hash of every run of `length` words; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    for at in range(max(len(words) - length, 0) + 1):
        yield hash(tuple(words[at : at + length]))


def without_shared_runs(heldout: Iterable[str], training: Iterable[str]) -> list[str]:
    """The held-out documents that share no run of words with any training document."""
    seen = {run for text in training for run in runs(text)}
    return [text for text in heldout if seen.isdisjoint(runs(text))]
