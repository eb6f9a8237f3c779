"""A pod on one machine: N processes with M simulated devices each.

python launch/local_pod.py --processes 2 --devices 2 train CONFIG --out runs/pod

The processes meet as those of a real pod do, each with its own log. Process 0 talks to the
terminal. Where one fails or is killed all end, and with --restarts they are started again. SIGTERM
to this program goes on to all of them.
"""

import dataclasses
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rbs_jax.cli import MISTAKE, parsed, refuse
from rbs_jax.errors import UserError
from rbs_jax.launch import options_before

TPU = Path(__file__).with_name("tpu.py")
LEAVE = 60.0
"""In which the others end after the first has failed, before they are killed [seconds]."""
LOOK = 0.1
"""Between two looks at the processes [seconds]."""


@dataclasses.dataclass(frozen=True)
class LocalPod:
    """Processes that stand for the hosts of a pod; behind the options, any command of rbs."""

    processes: int = 2
    """How many."""
    devices: int = 2
    """Simulated devices of each process."""
    restarts: int = 0
    """How often to start all of them again after a failure that is no mistake of the user."""
    logs: Path = Path("logs")
    """Folder for each process's own log."""


def start(pod: LocalPod, command: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """The processes of a pod that works on a command; the first is process 0."""
    address = f"127.0.0.1:{free_port()}"
    return [start_one(pod, command, address, index) for index in range(pod.processes)]


def free_port() -> int:
    """A port that no one listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_one(
    pod: LocalPod, command: Sequence[str], address: str, index: int
) -> subprocess.Popen[bytes]:
    """One process of a pod.

    Args:
      pod: what it belongs to.
      command: what all of them run.
      address: HOST:PORT of process 0.
      index: its own number.
    """
    options = ["--coordinator", address, "--processes", pod.processes, "--process", index]
    options += ["--simulate", pod.devices, "--logs", pod.logs]
    return subprocess.Popen([sys.executable, str(TPU), *map(str, options), *command])


def wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit status of a pod: 0, or that of the first process that failed.

    One that does not end in LEAVE seconds after another's failure is killed.
    """
    failed, since = 0, 0.0
    while any(process.poll() is None for process in processes):
        if failed and time.monotonic() - since > LEAVE:
            for process in processes:
                process.kill()
        statuses = [process.poll() for process in processes]
        if not failed and any(statuses):
            failed, since = next(filter(None, statuses)), time.monotonic()
        time.sleep(LOOK)
    return failed or next(filter(None, [process.returncode for process in processes]), 0)


def main(args: Sequence[str]) -> int:
    """Run `[OPTIONS] COMMAND ...` in a pod; returns its exit status."""
    try:
        at = options_before(args)
        pod, command = parsed(LocalPod, args[:at], "launch/local_pod.py"), args[at:]
        if pod.processes < 1 or pod.devices < 1:
            raise UserError("--processes and --devices must be at least 1")
    except UserError as error:
        return refuse(str(error))
    processes: list[subprocess.Popen[bytes]] = []
    asked = False

    def hand_on(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for process in processes:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    for left in range(pod.restarts, -1, -1):
        processes = start(pod, command)
        try:
            status = wait(processes)
        except KeyboardInterrupt:  # which the terminal has sent to all of them
            status, asked = wait(processes) or 128 + signal.SIGINT, True
        finally:  # none outlives its pod
            for process in processes:
                process.kill()
        if status in (0, MISTAKE) or asked or not left:
            return 128 - status if status < 0 else status
        print(f"local_pod: ended with status {status}, starting again", flush=True)
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
