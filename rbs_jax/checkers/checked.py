"""Many responses checked, in other processes."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout

from rbs_jax.checkers.checker import Verdict
from rbs_jax.checkers.table import find_checker
from rbs_jax.data.processes import processes
from rbs_jax.data.sources import Record, in_batches
from rbs_jax.errors import UserError

LINES = 8
"""That a process checks at a time."""


def check_all(
    name: str,
    rows: Sequence[Record],
    responses: Sequence[Sequence[str]],
    done: Callable[[int], object] | None = None,
) -> list[list[Verdict]]:
    """What a checker says of each row's responses.

    Others than this process check: math-verify bounds its time by an alarm signal, which has other
    uses here, and an answer's algebra may take more memory than there is.

    Args:
      name: as `find_checker` takes it.
      rows: the lines that the responses are to.
      responses: some for each row.
      done: is told how many more responses have been checked, now and then.

    Raises:
      UserError: there is no such checker; a line's fields are not as it wants them, or a function
        of the user fails, with the line and the response's number, from 1; or a process was killed.
    """
    find_checker(name)
    batches = list(in_batches(zip(rows, responses, strict=True), LINES))
    if not batches:
        return []
    verdicts: list[list[Verdict]] = []
    opened = None not in (sys.__stdout__, sys.__stderr__)
    with processes(min(os.cpu_count() or 1, len(batches))) as submit:
        futures = [submit(_check, name, batch, opened) for batch in batches]
        for future in futures:
            try:
                checked: list[list[Verdict]] = future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"a process that checks answers by {name} ended: killed, perhaps for want of "
                    "memory, or by the checker itself"
                ) from error
            verdicts += checked
            if done is not None:
                done(sum(map(len, checked)))
    return verdicts


def _check(
    name: str, batch: list[tuple[Record, Sequence[str]]], opened: bool
) -> list[list[Verdict]]:
    """A batch, in the process that checks it.

    What is printed meanwhile goes to stderr, as it is no part of the result.

    Args:
      name: as `find_checker` takes it.
      batch: rows and their responses.
      opened: whether stdout and stderr are. Else their numbers may be those of the pool's pipes.
    """
    if opened:  # what C code and other programs print, too; some print it when the process ends
        os.dup2(2, 1)
    check = find_checker(name).check

    def one(row: Record, number: int, response: str) -> Verdict:
        try:
            return check(row.fields, response)
        except UserError as error:
            raise UserError(f"{row.where}, response {number}: {error}") from error

    with redirect_stdout(sys.stderr):  # written at once, so that it is there if the process dies
        return [[one(row, n, text) for n, text in enumerate(own, 1)] for row, own in batch]
