"""One process of a pod, from its first line to its exit status: what `launch/tpu.py` runs."""

import dataclasses
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rbs_jax.hosts.flags import set_flags

TOGETHER = ("train", "score", "eval", "bon")
"""Commands that every process works on. The others run in process 0 alone, on its host's CPU."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """Any command of rbs, behind these options, on every host of a pod.

    On Cloud TPU, GKE and SLURM the processes find each other by themselves. Every process is
    started with the same options, but for `process`.
    """

    coordinator: str | None = None
    """HOST:PORT of process 0, on any free port; None to find it, or where there is but one process.
    """
    processes: int | None = None
    """How many there are; to be given with the coordinator."""
    process: int | None = None
    """This one's number, from 0; to be given with the coordinator."""
    simulate: int | None = None
    """Devices to simulate on this process's CPU; None to use those that are here."""
    late: int = 900
    """How late another process may start [seconds]."""
    logs: Path = Path("logs")
    """Folder for each process's own log, process-0.log and so on; appended to."""
    compiled: str | None = None
    """Folder or URL (gs://) that keeps compiled programs from run to run. Process 0 alone writes
    it, so only what all processes share saves the others' time. None for
    $JAX_COMPILATION_CACHE_DIR, or ~/.cache/rbs_jax/compiled."""


def main() -> int:
    """Run `[OPTIONS] COMMAND ...` of the command line; returns the exit status."""
    from rbs_jax.cli import MISTAKE, refuse
    from rbs_jax.errors import UserError

    try:
        launch, command = parse(sys.argv[1:])
        sys.argv[1:] = command
        _prepare(launch)
        _join(launch)
    except UserError as error:
        return refuse(str(error))
    from rbs_jax import cli
    from rbs_jax.hosts import failure, together
    from rbs_jax.hosts.logs import log_to

    try:
        log_to(launch.logs / f"process-{together.index()}.log", shows=together.is_first())
    except UserError as error:
        if together.number() > 1:
            failure.end_all(str(error), MISTAKE)
        return refuse(str(error))
    if command[:1] != ["train"]:  # which alone saves and leaves; jax would keep it from the others
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    what = f"rbs {shlex.join(command)}"
    if together.number() == 1:
        print(f"{began} {socket.gethostname()}: {what}", flush=True)
        return cli.main(command)
    place = f"process {together.index()} of {together.number()} on {socket.gethostname()}"
    print(f"{began} {place}: {what}", flush=True)
    if not command or command[0] not in TOGETHER:
        return _alone(command)
    failure.watch()
    try:
        status = cli.main(command, failure.end_all)
        together.wait_for_all()
    except Exception:
        failure.end_all_of_error()
    return status


def parse(args: Sequence[str]) -> tuple[Launch, list[str]]:
    """The options before the command's name, and the command with all that follows it.

    Raises:
      UserError: an option is unknown, or those of the coordinator are not all given.
    """
    from rbs_jax.cli import parsed
    from rbs_jax.errors import UserError

    at = options_before(args)
    launch = parsed(Launch, args[:at], "launch/tpu.py")
    explicit = (launch.coordinator, launch.processes, launch.process)
    if None in explicit and any(given is not None for given in explicit):
        raise UserError("give --coordinator, --processes and --process together, or none of them")
    if launch.process is not None and launch.processes is not None:
        if not 0 <= launch.process < launch.processes:
            raise UserError(
                f"--process is {launch.process}, of --processes {launch.processes} it must be "
                f"between 0 and {launch.processes - 1}"
            )
        if launch.coordinator is None or not launch.coordinator.rpartition(":")[2].isdecimal():
            raise UserError(f"--coordinator is {launch.coordinator}, it must be HOST:PORT")
    if launch.simulate is not None and launch.simulate < 1:
        raise UserError(f"--simulate is {launch.simulate}, it must be at least 1")
    return launch, list(args[at:])


def options_before(args: Sequence[str]) -> int:
    """How many arguments stand before the command's name: options, each with its value."""
    at = 0
    while at < len(args) and args[at].startswith("-"):
        at += 1 if "=" in args[at] or args[at] in ("-h", "--help") else 2
    return min(at, len(args))


def _prepare(launch: Launch) -> None:
    """Settings that hold only if they are made before jax starts its backend."""
    set_flags(os.environ)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no news of the network from C++
    import jax

    if launch.simulate is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", launch.simulate)
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    default = str(Path.home() / ".cache" / "rbs_jax" / "compiled")
    jax.config.update("jax_compilation_cache_dir", launch.compiled or kept or default)


def _join(launch: Launch) -> None:
    """Meet the other processes, where there are any; ends this one if they do not come in time."""
    import jax

    from rbs_jax.hosts.failure import HEARTBEAT, LOST

    def give_up() -> None:
        which = "" if launch.process is None else f"process {launch.process} of {launch.processes} "
        print(
            f"rbs: {which}on {socket.gethostname()}: the processes did not meet within "
            f"{launch.late} seconds; is process 0 at {launch.coordinator or 'its address'}, and "
            "was every process started?",
            file=sys.stderr,
            flush=True,
        )
        os._exit(LOST)

    # jax itself would end the process with a dump of its stack.
    waiting = threading.Timer(launch.late, give_up)
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(
            *(launch.coordinator, launch.processes, launch.process),
            initialization_timeout=launch.late + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:  # what jax raises where it finds no cluster and is given none
        if launch.coordinator is not None or "coordinator_address" not in str(error):
            raise
    finally:
        waiting.cancel()


def _alone(command: list[str]) -> int:
    """A command for which one process is enough; the others have nothing to do."""
    import jax

    from rbs_jax import cli
    from rbs_jax.hosts import together

    first = together.is_first()
    jax.distributed.shutdown()
    jax.config.update("jax_platforms", "cpu")  # an accelerator of a pod starts with all its hosts
    if not first:
        print("this command runs in process 0 alone", flush=True)
        return 0
    return cli.main(command)
