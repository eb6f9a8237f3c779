"""`--profile FIRST:LAST`: what the devices do in some steps, as a trace of jax's profiler."""

import re
import sys
from typing import Any

import jax

from rbs_jax.errors import UserError
from rbs_jax.hosts.together import is_first
from rbs_jax.train.folder import PROFILE, RunFolder
from rbs_jax.train.step import Step


class Profile:
    """A trace of steps FIRST to LAST, both included, which process 0 alone takes.

    The `with` ends a trace that an exception, an early stop or SIGTERM has cut short.
    """

    def __init__(self, steps: tuple[int, int] | None, folder: RunFolder) -> None:
        """Take it to the run's folder; None for no trace."""
        self._folder, self._traces = folder, False
        self._first, self._last = steps or (0, 0)

    def over(self, step: Step, start: int, steps: int) -> Step:
        """The step that takes the trace, for a run of steps start + 1 to `steps`."""
        if self._first == 0 or not is_first():
            return step
        if not start < self._first <= self._last <= steps:
            print(
                f"rbs: no --profile: this run does steps {start + 1} to {steps}, not all of "
                f"{self._first} to {self._last}",
                file=sys.stderr,
            )
            return step
        done = start

        def traced(state: Any, batch: Any) -> Any:
            nonlocal done
            done += 1
            if not self._first <= done <= self._last:
                return step(state, batch)
            if done == self._first:
                jax.block_until_ready(state)  # the steps before are none of the trace's
                jax.profiler.start_trace(self._folder.local / PROFILE)
                self._traces = True
            with jax.profiler.StepTraceAnnotation("step", step_num=done):
                made = step(state, batch)
            if done == self._last:
                jax.block_until_ready(made)
                self._end()
            return made

        return traced

    def _end(self) -> None:
        self._traces = False
        jax.profiler.stop_trace()
        print(f"profile: {self._folder.name}/{PROFILE}", flush=True)

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._traces:
            self._end()


def parse_steps(steps: str) -> tuple[int, int]:
    """FIRST:LAST as numbers, counted from 1.

    Raises:
      UserError: these are no such steps.
    """
    found = re.fullmatch(r"(\d+):(\d+)", steps, re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--profile is {steps}; give the first and the last step, as in 10:15")
    return int(found[1]), int(found[2])
