import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from rbs_jax.data.processes import processes


def children():
    return [child for child in psutil.Process().children() if "spawn_main" in str(child.cmdline())]


def test_results_come_from_other_processes():
    with processes(2) as submit:
        futures = [submit(os.getpid) for _ in range(20)]
        found = {future.result() for future in futures}
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2


def test_an_error_ends_the_busy_ones_and_what_waits():
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), processes(1) as submit:  # noqa: PT012
        futures = [submit(time.sleep, 60) for _ in range(5)]
        raise ZeroDivisionError
    assert time.monotonic() - began < 20
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in futures)
    assert not children()


def test_one_that_is_killed_is_an_error():
    with pytest.raises(BrokenProcessPool), processes(2) as submit:
        submit(os._exit, 1).result()


def test_interrupts_do_not_reach_them():
    with processes(1) as submit:
        pid = submit(os.getpid).result()
        sleeping = submit(time.sleep, 0.5)
        os.kill(pid, signal.SIGINT)
        assert sleeping.result() is None
        assert submit(os.getpid).result() == pid


PARENT = """
import os, time
from rbs_jax.data.processes import processes

if __name__ == "__main__":
    with processes(2) as submit:
        print(submit(os.getpid).result(), flush=True)
        submit(time.sleep, 60)
        time.sleep(60)
"""


def test_they_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, tmp_path / "parent.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    worker.wait(timeout=20)
