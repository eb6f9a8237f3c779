"""OUT/heartbeat.json: where a run stands, so that a slow one is told from a dead one."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from rbs_jax.errors import Preempted
from rbs_jax.files import write_json
from rbs_jax.hosts.together import is_first, number
from rbs_jax.remote import Unreachable
from rbs_jax.train.folder import HEARTBEAT, RunFolder

State = Literal["starting", "training", "measuring", "saving", "done", "preempted", "failed"]
WRITE_EVERY = 1.0
"""Between steps that are told [seconds]; another state is told at once."""


class Heartbeat:
    """Process 0 tells how far the run is; to a bucket it goes with the other small files.

    The `with` ends in "preempted" or "failed" where an exception ends it.
    """

    def __init__(self, folder: RunFolder, steps: int) -> None:
        """Tell nothing before `begin`, as a run that is refused must not speak for another."""
        self._folder, self._steps = folder, steps
        self._step = -1
        self._seconds: float | None = None
        self._state: State = "starting"
        self._since = self._written = 0.0

    def begin(self, start: int) -> None:
        """Tell from here on; `start` is the steps done."""
        self._step = start
        self.enter("starting")
        self._folder.sync()  # before all else: it marks a run in a bucket

    def enter(self, state: State) -> None:
        """What the run does from now on."""
        self._state, self._since = state, time.monotonic()
        self._write()

    @contextlib.contextmanager
    def during(self, state: State) -> Iterator[None]:
        """The run does this meanwhile, then it trains on."""
        self.enter(state)
        yield
        self.enter("training")

    def step(self, done: int) -> None:
        """Step `done` is done.

        Raises:
          UserError: the file cannot be written.
        """
        now = time.monotonic()
        if done > self._step:
            self._step, self._seconds = done, now - self._since
        self._since = now
        if now - self._written >= WRITE_EVERY:
            self._write()

    def _write(self) -> None:
        if not is_first():
            return
        self._written = time.monotonic()
        told = {
            "state": self._state,
            "step": self._step,
            "steps": self._steps,
            "seconds": self._seconds,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "processes": number(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_json(self._folder.local / HEARTBEAT, told)

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is None or self._step < 0:
            return
        with contextlib.suppress(Exception):  # `error` is what is to be told
            self.enter("preempted" if isinstance(error, Preempted) else "failed")
            if not isinstance(error, (OSError, Unreachable)):
                self._folder.sync()
