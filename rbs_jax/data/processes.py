"""Work in several processes, which end with the one that started them, however it ends."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing import resource_tracker as tracker
from threading import Thread
from typing import Any


@contextmanager
def processes(count: int | None = None) -> Iterator[Callable[..., Future[Any]]]:
    """A pool of processes: yields `submit(function, *arguments)`, which returns a future.

    Ctrl-C reaches this process alone. It, and any other error inside the `with`, ends
    the others at once, busy or not, without a word from them.

    Args:
      count: how many; None for one a core.
    """
    others = set(active_children())
    # Spawned: a fork of a process that runs jax can deadlock.
    spawned = get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=spawned, initializer=_end_with_parent) as pool:

        def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            with _interrupts_held():  # this may start a process, which holds them for good
                return pool.submit(function, *arguments)

        tracker.ensure_running()  # else a submit starts it, which lets Ctrl-C through again
        try:
            yield submit
        except BaseException:
            # Not cancelled: Python 3.11's pool fails at a cancelled future when it breaks.
            for process in set(active_children()) - others:
                process.terminate()
            raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work forever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=wait, daemon=True).start()
