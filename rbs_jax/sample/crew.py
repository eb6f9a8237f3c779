"""Threads that nobody waits for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Crew:
    """Makes calls in the order they are given, so many at once.

    Leaving it makes no other call, and waits for none that is under way: the threads of a
    ThreadPoolExecutor would keep an interrupted command until a server answers.
    """

    def __init__(self, size: int) -> None:
        """Begin with `size` threads."""
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._size, self._left = size, False
        for _thread in range(size):
            threading.Thread(target=self._work, daemon=True).start()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        for _thread in range(self._size):
            self._calls.put(None)

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """What a function will return or raise."""
        future: Future[Result] = Future()
        self._calls.put((future, function))
        return future

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._left:
                continue
            future, function = call
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
