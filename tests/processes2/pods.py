"""Pods of real processes on this machine, to be watched and killed."""

import dataclasses
import signal
import subprocess
import time
from pathlib import Path

import pytest

from launch.local_pod import LocalPod, free_port, start, start_one, wait
from rbs_jax.train.metrics import TIME_FIELDS, read_metrics

SOON = 20
"""In which a pod ends after one of its processes [seconds]."""
LONG = 240
"""After which a pod that does not end is a failure [seconds]."""


@dataclasses.dataclass
class Ended:
    """What a pod has left."""

    status: int
    statuses: list[int]
    logs: list[str]

    @property
    def said(self) -> str:
        """What process 0 has said."""
        return self.logs[0]


class Running:
    """A pod at work."""

    def __init__(self, pod, processes):
        self._pod, self.processes = pod, processes

    def log(self, index):
        """What a process has said so far."""
        path = self._pod.logs / f"process-{index}.log"
        return path.read_text() if path.is_file() else ""

    def until(self, text, index=0):
        """Wait until a process has said something."""
        deadline = time.monotonic() + LONG
        while text not in self.log(index):
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log(index)}"
            assert self.processes[index].poll() is None, f"ended:\n{self.log(index)}"
            time.sleep(0.02)

    def signal(self, index, number):
        """Send a signal to a process."""
        self.processes[index].send_signal(number)

    def end(self, within=LONG):
        """Wait until all have ended."""
        deadline = time.monotonic() + within
        try:
            for process in self.processes:
                process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired as error:
            logs = "\n".join(self.log(index) for index in range(len(self.processes)))
            raise AssertionError(f"not ended within {within} seconds:\n{logs}") from error
        finally:
            for process in self.processes:
                process.kill()
        return self.ended()

    def ended(self):
        """What it has left."""
        statuses = [process.wait() for process in self.processes]
        logs = [self.log(index) for index in range(len(self.processes))]
        return Ended(wait(self.processes), statuses, logs)


class Pods:
    """Starts pods in one folder."""

    def __init__(self, folder: Path):
        self.folder, self._count = folder, 0

    def pod(self, processes, devices=None):
        """A pod with logs of its own; 4 devices in all unless told."""
        self._count += 1
        logs = self.folder / f"logs-{self._count}"
        return LocalPod(processes, devices or 4 // processes, logs=logs)

    def start(self, *command, processes=2, devices=None):
        """Start a command in every process of a pod."""
        pod = self.pod(processes, devices)
        return Running(pod, start(pod, command))

    def start_each(self, command, settings, late=0.0):
        """As `start`, process after process, each so much later [seconds].

        `settings` has for each its own variables of the environment, or its working folder.
        """
        pod, processes = self.pod(len(settings)), []
        address = f"127.0.0.1:{free_port()}"
        for index, own in enumerate(settings):
            with pytest.MonkeyPatch.context() as patch:
                if isinstance(own, Path):
                    patch.chdir(own)
                else:
                    for name, value in own.items():
                        patch.setenv(name, value)
                processes.append(start_one(pod, command, address, index))
            time.sleep(late)
        return Running(pod, processes)

    def run(self, *command, processes=2, devices=None):
        """A command from its start to its end."""
        return self.start(*command, processes=processes, devices=devices).end()


KILL, TERM, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP


def timeless(out):
    """The records of a run without what depends on the machine's speed."""
    return [
        {name: value for name, value in record.items() if name not in TIME_FIELDS}
        for record in read_metrics(out / "metrics.jsonl")
    ]
