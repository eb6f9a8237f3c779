"""How far a scoring is: a bar on a terminal, else a plain line now and then."""

import sys
import time

from tqdm import tqdm

from rbs_jax.hosts.together import is_first
from rbs_jax.workers import PLAIN_LINES


class Progress:
    """Counts responses; of several processes, process 0 alone shows them."""

    def __init__(self, what: str | None = None, total: int | None = None) -> None:
        """Begin to count.

        Args:
          what: is scored, for its name; None for responses alone.
          total: how many there are [responses]; None where that is not known.
        """
        self._what = "" if what is None else f"{what}: "
        self._of = "" if total is None else f" of {total}"
        self._before = self._scored = 0
        self._began = self._said = time.monotonic()
        self._bar = None
        if is_first() and sys.stderr.isatty():
            self._bar = tqdm(desc=what, total=total, unit=" responses", unit_scale=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, responses: int, before: bool) -> None:
        """So many more are there; those scored `before` count as no speed."""
        if before:
            self._before += responses
        else:
            self._scored += responses
        now = time.monotonic()
        if self._bar is not None:
            self._bar.initial = self._before
            self._bar.n = self._before + self._scored
            self._bar.refresh()
        elif is_first() and now - self._said >= PLAIN_LINES:
            self._said = now
            rate = self._scored / (now - self._began)
            done = self._before + self._scored
            said = f"rbs: {self._what}{done}{self._of} responses, {rate:.1f} a second"
            print(said, file=sys.stderr, flush=True)
