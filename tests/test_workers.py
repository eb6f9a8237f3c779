import os
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from rbs_jax import workers
from rbs_jax.errors import UserError


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


def end_at_once(task):
    os._exit(task.size)


def test_a_worker_that_is_killed_is_a_mistake_of_one_line():
    with pytest.raises(UserError, match="a worker process was killed, perhaps for want of memory"):
        workers.run(end_at_once, [Task(9), Task(9)], "testing", workers=2)
