"""Documents that share words in a row with texts they must not repeat."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int32, UInt64

from rbs_jax.data.words import run_hashes

RUN = 13
"""Words in a row that two documents may not share [words]."""


@dataclasses.dataclass(frozen=True, eq=False)
class BenchmarkRuns:
    """Every run of 13 words of some texts, and which file each comes from; can be pickled.

    12 bytes a run. A text shorter than 13 words is one run: it is found only in
    documents that consist of the same words, never inside a longer one.
    """

    runs: UInt64[np.ndarray, " R"]
    """Hashes, ascending, each once."""
    files: Int32[np.ndarray, " R"]
    """Which of `names` held each first."""
    names: tuple[str, ...]
    """The files, in the order of their first texts."""

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]]) -> "BenchmarkRuns":
        """From texts, each behind the name of the file it comes from."""
        numbers: dict[str, int] = {}
        # The empty ones, so that no text at all can be concatenated too.
        runs, files = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
        for name, text in texts:
            hashes = run_hashes(text, RUN)
            runs.append(hashes)
            files.append(np.full(len(hashes), numbers.setdefault(name, len(numbers)), np.int32))
        once, first = np.unique(np.concatenate(runs), return_index=True)
        return cls(once, np.concatenate(files)[first], tuple(numbers))

    def __len__(self) -> int:
        """How many different runs there are."""
        return len(self.runs)

    def shared(self, text: str) -> str | None:
        """The first of the files, in the order of `names`, that shares a run with a text."""
        wanted = np.sort(run_hashes(text, RUN))
        at = np.searchsorted(self.runs, wanted)
        inside = at < len(self.runs)
        at = at[inside]
        found = at[self.runs[at] == wanted[inside]]
        return self.names[self.files[found].min()] if len(found) else None


def without_shared_runs(heldout: Iterable[str], training: Iterable[str]) -> list[str]:
    """The held-out documents that share no run of words with any training document."""
    seen = BenchmarkRuns.of(("training", text) for text in training)
    return [text for text in heldout if seen.shared(text) is None]


def texts_of(record: object) -> Iterator[str]:
    """Every string in a JSON value, however deep, in its order; names of fields are left out."""
    # No recursion: JSON may be nested as deep as Python's stack.
    waiting = [record]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)
