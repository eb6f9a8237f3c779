"""Tasks to whoever works on them: this process, several here, or a Beam pipeline's workers."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar, runtime_checkable

from tqdm import tqdm

from rbs_jax.data.processes import processes
from rbs_jax.errors import UserError


@runtime_checkable
class Sized(Protocol):
    """A task that knows how much work it is."""

    @property
    def size(self) -> int:
        """About how much text there is [bytes]."""


Task = TypeVar("Task", bound=Sized)
PLAIN_LINES = 30
"""Between lines about progress where there is no terminal [seconds]."""


def run(
    function: Callable[[Task], Any],
    tasks: Sequence[Task],
    what: str,
    workers: int | None = None,
    beam: str | None = None,
) -> None:
    """Call a function, which is importable by its name, with every task, in any order.

    Args:
      function: what it makes goes to files; what it returns goes nowhere.
      tasks: their sizes are for the progress.
      what: what is done, for the progress.
      workers: processes; None for one a core. A single one is this process itself.
      beam: options of a Beam pipeline whose workers call the function instead.

    Raises:
      UserError: what the function raises.
    """
    if beam is not None:
        from rbs_jax.beam import run_pipeline

        run_pipeline(function, tasks, beam)
        return
    count = min(workers or os.cpu_count() or 1, len(tasks))
    with Progress(sum(task.size for task in tasks), what) as progress:
        if count == 1:
            for task in tasks:
                function(task)
                progress.add(task.size)
            return
        # The largest first: begun last, one would keep a single process busy at the end.
        by_size = sorted(tasks, key=lambda task: -task.size)
        with processes(count) as submit:
            sizes = {submit(function, task): task.size for task in by_size}
            for future in as_completed(sizes):
                try:
                    future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        "a worker process was killed, perhaps for want of memory: the same command "
                        "goes on; give fewer --workers if it happens again"
                    ) from error
                progress.add(sizes[future])


class Progress:
    """A bar on a terminal, else a plain line now and then, both with an estimate of the rest."""

    def __init__(self, total: int, what: str) -> None:
        """`total` is how much text there is in all [bytes]."""
        self._total, self._what, self._done = total, what, 0
        self._began = self._said = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=what, unit="B", unit_scale=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, size: int) -> None:
        """So much more is done [bytes]."""
        self._done += size
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(size)
        elif now - self._said >= PLAIN_LINES:
            self._said = now
            left = (now - self._began) * (self._total - self._done) / self._done
            share = self._done / self._total
            print(f"{self._what}: {share:.0%}, about {left / 60:.0f} min left", flush=True)
