"""How one process's failure ends all of them: its error is shown once, and nobody hangs.

An error that a process meets is put where all others look, and they end at once. A process that
is killed says nothing. Its peers then learn it from the network, which breaks at once on CPU,
or from jax's heartbeats, which stop for HEARTBEAT seconds before the others are ended.
"""

import json
import os
import re
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

import jax

from rbs_jax.hosts.logs import note
from rbs_jax.hosts.together import client, index, is_first, number

HEARTBEAT = 30
"""Without a sign of life, after which a process counts as dead [seconds]."""
FAILED = "rbs/failed"
"""Where the first failure stands."""
LOOK = 10
"""How long one look for a failure waits [seconds]."""
GRACE = 2.0
"""In which the others read a failure, before the process that keeps it ends [seconds]."""
CAUSE = 5.0
"""In which an error that another's end has caused waits for its cause to be told [seconds]."""
BROKEN = r"Gloo|NCCL|UNAVAILABLE|Connection (reset|closed|refused)"
"""What an error says where the network to another process broke."""
LOST = 1
"""Exit status where no user's mistake ended a run; a supervisor starts it again."""
_ending = threading.Lock()


def watch() -> None:
    """Look for a failure of another process from now on; end this one where there is one."""
    threading.Thread(target=_watch, name="failures", daemon=True).start()


def _watch() -> None:
    while (service := client()) is not None:
        try:
            failed = json.loads(service.blocking_key_value_get(FAILED, LOOK * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                continue
            return  # the run ends, or process 0 is gone, which jax itself tells and ends
        if failed["index"] == index():
            return
        time.sleep(GRACE / 4)  # the same mistake may be met here too, and be told here
        _end(failed)


def end_all(error: str, status: int) -> NoReturn:
    """End every process with this one's error.

    Args:
      error: one line.
      status: the exit status of all of them.
    """
    failed: dict[str, Any] = {
        "index": index(),
        "host": socket.gethostname(),
        "error": error,
        "status": status,
    }
    try:
        client().key_value_set(FAILED, json.dumps(failed))
    except jax.errors.JaxRuntimeError as unsaid:  # another failed before, or process 0 is gone
        if "ALREADY_EXISTS" not in str(unsaid):
            print(f"rbs: process 0 cannot be told: {unsaid}", file=sys.stderr)
    _end(failed)


def end_all_of_error() -> NoReturn:
    """End every process with the exception that is being handled.

    Where another process's end has caused it, the others' cause is told instead.
    """
    time.sleep(CAUSE)  # `_watch` ends this process meanwhile, if it hears of a cause
    kind, error, _ = sys.exc_info()
    if re.search(BROKEN, str(error)):
        note(traceback.format_exc())
        end_all(f"lost another process, or the network to it: {_first_line(error)}", LOST)
    traceback.print_exc()
    end_all(f"{kind.__name__ if kind else 'error'}: {_first_line(error)}", LOST)


def _first_line(error: BaseException | None) -> str:
    return (str(error).splitlines() or [""])[0]


def _end(failed: dict[str, Any]) -> NoReturn:
    """Say whose failure it was, wait until the others have read it, and leave at once."""
    if not _ending.acquire(blocking=False):  # another thread of this process says it
        time.sleep(2 * GRACE)
    whose = f"process {failed['index']} of {number()} ({failed['host']}): "
    own = failed["index"] == index() and is_first()
    print(f"rbs: {'' if own else whose}{failed['error']}", file=sys.stderr)
    if is_first():
        time.sleep(GRACE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(failed["status"])
