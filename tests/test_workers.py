from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple

from rbs_jax import workers


class Task(NamedTuple):
    size: int


def test_the_largest_tasks_are_begun_first(monkeypatch):
    begun = []

    @contextmanager
    def processes(count):
        def submit(function, task):
            begun.append(task.size)
            future = Future()
            future.set_result(function(task))
            return future

        yield submit

    monkeypatch.setattr(workers, "processes", processes)
    workers.run(str, [Task(2), Task(9), Task(5)], "testing", workers=2)
    assert begun == [9, 5, 2]
