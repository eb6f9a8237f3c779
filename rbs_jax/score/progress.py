"""How far a scoring is: a bar on a terminal, else a plain line now and then."""

import sys
import time

from tqdm import tqdm

from rbs_jax.hosts.together import is_first
from rbs_jax.workers import PLAIN_LINES


class Progress:
    """Counts responses; of several processes, process 0 alone shows them."""

    def __init__(self) -> None:
        self._before = self._scored = 0
        self._began = self._said = time.monotonic()
        self._bar = None
        if is_first() and sys.stderr.isatty():
            self._bar = tqdm(unit=" responses", unit_scale=True)

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
            print(f"rbs: {done} responses, {rate:.1f} a second", file=sys.stderr, flush=True)
