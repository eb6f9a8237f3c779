"""Programs that take turns: each in a process of its own, only one of them working at a time.

A machine's drift then hits all of them alike, and a process's memory is its program's alone.
"""

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

SPAWN = multiprocessing.get_context("spawn")


class Absent(Exception):
    """A program cannot run here: its message says what is missing."""


class Program:
    """An object in another process; its methods are called by name.

    Args:
      module: what the other process imports; this one does not.
      kind: a class of it.
      args: what the class is given.

    Raises:
      Absent: the class did, or a library is not installed.
    """

    def __init__(self, module: str, kind: str, *args: Any) -> None:
        self._name = f"{module}.{kind}"
        self._pipe, far = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(far, module, kind, args), daemon=True)
        self._process.start()
        far.close()
        self._answer()

    def ask(self, method: str, *args: Any) -> Any:
        """What the object's method returns; nothing else is done meanwhile.

        Raises:
          Absent: the method did.
        """
        self._pipe.send((method, args))
        return self._answer()

    def _answer(self) -> Any:
        try:
            said = self._pipe.recv()
        except EOFError:
            sys.exit(f"{self._name} ended early; what it said stands above")
        if isinstance(said, Absent):
            raise said
        return said

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _serve(pipe: Any, module: str, kind: str, args: tuple[Any, ...]) -> None:
    try:
        made = getattr(importlib.import_module(module), kind)(*args)
        pipe.send(None)
        while True:
            method, given = pipe.recv()
            pipe.send(getattr(made, method)(*given))
    except ModuleNotFoundError as error:
        pipe.send(Absent(f"{error.name} is not installed"))
    except Absent as error:
        pipe.send(error)
    except EOFError:
        pass


def take_threads(count: int) -> None:
    """Keep this process to so many processors, whatever its libraries would take."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def own_memory() -> float:
    """Of this process, without pages of files [bytes]."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return float((resident - shared) * os.sysconf("SC_PAGE_SIZE"))


def give_back_memory() -> None:
    """What was freed, but kept by the C library, goes back to the system."""
    ctypes.CDLL(None).malloc_trim(0)


class Peak:
    """The most of this process's own memory [bytes] seen while it is open."""

    def __init__(self, every: float = 0.01) -> None:
        """Looks so often [s]."""
        self._every = every

    def __enter__(self) -> "Peak":
        self.start = self.bytes = own_memory()
        self._open = True
        self._watch = threading.Thread(target=self._run)
        self._watch.start()
        return self

    def _run(self) -> None:
        while self._open:
            self.bytes = max(self.bytes, own_memory())
            time.sleep(self._every)

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._watch.join()


class Watched(NamedTuple):
    """What a program that ran to its end has cost, all processes that it started included."""

    seconds: float
    processor_seconds: float
    peak_bytes: int
    """Most resident memory of all processes together, as it was seen some times a second."""
    said: dict[str, Any]
    """The JSON of its last line."""


def watched(command: list[str], environment: dict[str, str], every: float = 0.1) -> Watched:
    """Run a program whose last line is JSON, looking at its memory so often [s]."""
    before, peak, began = _of_children(), 0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = psutil.Popen(
            command, stdout=out, stderr=errors, env={**os.environ, **environment}
        )
        while process.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(every)
        seconds = time.perf_counter() - began
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{errors.read()[-4000:]}")
        return Watched(
            seconds, _of_children() - before, peak, json.loads(out.read().splitlines()[-1])
        )


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def fastest(sizes: list[int], seconds_each: Callable[[int], float | None]) -> int:
    """The size that costs least, tried upwards until one is clearly slower or does not fit.

    Args:
      sizes: rising.
      seconds_each: what a unit of work costs at a size [s]; None where it does not fit.
    """
    costs: dict[int, float] = {}
    for size in sizes:
        cost = seconds_each(size)
        if cost is None or (costs and cost > 1.1 * min(costs.values())):
            break
        costs[size] = cost
    if not costs:
        raise Absent(f"does not fit, not even {sizes[0]} at a time")
    return min(costs, key=lambda size: costs[size])


def divisors(number: int) -> list[int]:
    """Rising."""
    return [d for d in range(1, number + 1) if number % d == 0]
