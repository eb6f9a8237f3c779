"""What the processes of a run tell each other beside the arrays of a step.

Every process calls these functions at the same places of the program, in the same order: what
one of them sees alone (a clock, a file, free memory) never decides what it does alone. One
process needs nothing: each function then answers at once.
"""

import json
import os
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

# The service that jax.distributed starts has no public name; orbax and flax use it by this one.
from jax._src.distributed import global_state

from rbs_jax.errors import UserError

Said = TypeVar("Said")
PATIENCE = 3600
"""For what another process is to say [seconds]; one that failed ends all of them long before."""
PIECE = 2**20
"""Of a long text that is sent as one message [characters]."""
_turns = count()


def client() -> Any:
    """Of the service that keeps what processes tell each other; None where none was started."""
    return global_state.client


def index() -> int:
    """This process's number, from 0."""
    return global_state.process_id


def number() -> int:
    """How many processes there are."""
    return global_state.num_processes


def is_first() -> bool:
    """Whether this is process 0, which alone prints and writes a run's small files."""
    return index() == 0


def first_says(what: Callable[[], Said]) -> Said:
    """What process 0 finds; the others wait for it.

    Args:
      what: called in process 0 alone; gives something that JSON can hold.
    """
    if number() == 1:
        return what()
    key = f"rbs/first/{next(_turns)}"
    if is_first():
        found = what()
        _say(key, found)
        return found
    return _hear(key)


def all_say(value: Said) -> list[Said]:
    """The value of every process, in their order; each waits for all.

    Args:
      value: something that JSON can hold.
    """
    if number() == 1:
        return [value]
    key = f"rbs/all/{next(_turns)}"
    _say(f"{key}/{index()}", value)
    return [_hear(f"{key}/{other}") for other in range(number())]


def refuse_unlike(value: Any, what: str) -> None:
    """Processes that read differently would wait for each other for ever.

    Args:
      value: what this process has read, or a digest of it.
      what: its name, for the message.

    Raises:
      UserError: a process has read something else than process 0.
    """
    said = all_say(value)
    others = [at for at, other in enumerate(said) if other != said[0]]
    if others:
        raise UserError(f"{what}: is not the same for process {others[0]} as for process 0")


def wait_for_all() -> None:
    """Until every process has come here, so that what each did before is done."""
    all_say(os.getpid())


def _say(key: str, value: Any) -> None:
    text = json.dumps(value)
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    for at, piece in enumerate(pieces):
        client().key_value_set(f"{key}/{at}", piece)
    client().key_value_set(f"{key}/pieces", str(len(pieces)))


def _hear(key: str) -> Any:
    def piece(name: str) -> str:
        return client().blocking_key_value_get(f"{key}/{name}", PATIENCE * 1000)

    return json.loads("".join(piece(str(at)) for at in range(int(piece("pieces")))))
