"""Preemption: SIGTERM asks a run to save where it stands and to leave."""

import signal
import threading
from types import FrameType

from jax.experimental import multihost_utils

from rbs_jax.hosts.together import client


class Notice:
    """While the `with` lasts, SIGTERM to any process is heard of by all, at one step.

    Under jax.distributed, its coordination service listens and finds a step that no process has
    passed yet. Without it, this process listens itself, and a second SIGTERM ends it at once.
    """

    def __init__(self) -> None:
        self._heard = False

    def __enter__(self) -> "Notice":
        alone = client() is None
        self._listens = alone and threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, _signal: int, _frame: FrameType | None) -> None:
        self._heard = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def reached(self, step: int) -> bool:
        """Whether to save and leave after `step`; every process asks after every step."""
        return self._heard or bool(multihost_utils.reached_preemption_sync_point(step))
