"""`rbs` and `python -m rbs_jax`: a command line from its first import to its exit status.

Ctrl-C ends every moment of it with one line and status 130, so the handler is set
before anything heavy is imported.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

LEFT = {
    "quickstart": "the same command goes on from the last checkpoint",
    "prepare": "the same command goes on from the last shard",
    "train": "the same command goes on from the last checkpoint",
    "plan": "a plan is written whole or not at all",
    "score": "the same command goes on from the last batch of lines",
    "eval": "the same command goes on from what is scored",
    "bon": "the same command goes on from what is drawn and scored",
    "combine": "a result is written whole or not at all",
    "report": "a folder is written whole or not at all",
    "export": "a folder is written whole or not at all",
    "inspect": "a folder is written whole or not at all",
}
"""What an interrupted command leaves."""
LATER = 0.01
"""Until an interrupt that a library has lost is tried again [seconds]."""


class _Interrupts:
    """What Ctrl-C does: while there is work, the first unwinds it; any other leaves at once.

    A library may turn KeyboardInterrupt into an error of its own, which `seen` tells,
    or may call back where nothing can be raised, then it is raised a little later.
    One that is being imported may print it, and leaves nothing to clean up.
    """

    def __init__(self) -> None:
        self.seen = False
        self.working = False

    def __call__(self, _signal: int, frame: FrameType | None) -> None:
        if self.seen or not self.working or _importing(frame):
            self.leave()
        self.seen = True
        raise KeyboardInterrupt

    def unraisable(self, lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            self.seen = False
            signal.setitimer(signal.ITIMER_REAL, LATER)
        else:
            sys.__unraisablehook__(lost)

    def leave(self) -> None:
        """End the process here: no clean-up, no second line by whatever else unwinds."""
        command = sys.argv[1] if len(sys.argv) > 1 else ""
        left = f"; {LEFT[command]}" if command in LEFT else ""
        os.write(2, f"rbs: interrupted{left}\n".encode())
        os._exit(130)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def run(main: Callable[[], int] | None = None) -> None:
    """A program: runs `main`, that of `rbs` unless told, and exits with the status it returns."""
    interrupts = _Interrupts()
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # nohup and & ignore it
        signal.signal(signal.SIGINT, interrupts)
        signal.signal(signal.SIGALRM, interrupts)
        sys.unraisablehook = interrupts.unraisable
    if main is None:
        from rbs_jax.cli import main as rbs

        main = rbs
    interrupts.working = True
    try:
        status = main()
    except BaseException:
        if interrupts.seen:
            interrupts.leave()
        raise
    interrupts.working = False
    # The interpreter's own end takes a while in which no Ctrl-C can be caught, and in
    # which tasks that a library dropped at an error complain of it.
    atexit._run_exitfuncs()
    os._exit(status)


if __name__ == "__main__":
    run()
