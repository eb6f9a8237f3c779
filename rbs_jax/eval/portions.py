"""Many items to a scorer, some at a time, each portion kept in a file once it is answered.

OUT/kept/rewards-0123456789abcdef.jsonl
    what was asked, and a digest of the items and of what else decides the answers

A file is there whole or not at all, so the same command goes on where it was stopped, and another
one with the same items and model asks nothing again. Process 0 alone reads and writes them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rbs_jax.data.template import Prompt
from rbs_jax.digest import digest_of
from rbs_jax.files import taken_back, writing
from rbs_jax.hosts.together import first_says, is_first
from rbs_jax.score.progress import Progress
from rbs_jax.storage import put_text, read_text
from rbs_jax.suites.items import Item

ITEMS, RESPONSES = 1024, 2048
"""Asked for at once, at most, but for one item of more: a stop loses no more than that."""
KEPT = "kept"

Ask = Callable[[Sequence[Prompt], Sequence[Sequence[str]], Sequence[str]], list[Any]]
"""Answers to prompts, responses and names, each something that JSON can hold."""


class Kept(NamedTuple):
    """Where answers are kept."""

    out: str
    """The folder of the results."""
    decides: str
    """What decides the answers beside the items: the model and the template."""


def in_portions(items: Sequence[Item], what: str, ask: Ask, kept: Kept) -> list[Any]:
    """What a scorer answers to the prompts, responses and names of all items.

    Raises:
      UserError: what the scorer raises, or an answer cannot be kept.
    """
    answers: list[Any] = []
    folder = f"{kept.out}/{KEPT}"
    with (
        taken_back(Path(folder)),
        Progress(what, sum(len(item.responses) for item in items)) as progress,
    ):
        for portion in _portions(items):
            texts = [[item.prompt, item.responses] for item in portion]
            digest = digest_of(json.dumps([kept.decides, texts]))
            file = f"{folder}/{what.replace(' ', '_')}-{digest}.jsonl"
            found = first_says(partial(_read, file, len(portion)))
            before = found is not None
            if found is None:
                found = ask(
                    [item.prompt for item in portion],
                    [item.responses for item in portion],
                    [f"item {item.id}" for item in portion],
                )
                if is_first():
                    with writing(file):
                        put_text("".join(json.dumps(own) + "\n" for own in found), file)
            answers += found
            progress.add(sum(len(item.responses) for item in portion), before)
    return answers


def _portions(items: Sequence[Item]) -> Iterator[list[Item]]:
    portion: list[Item] = []
    count = 0
    for item in items:
        if portion and (len(portion) == ITEMS or count + len(item.responses) > RESPONSES):
            yield portion
            portion, count = [], 0
        portion.append(item)
        count += len(item.responses)
    if portion:
        yield portion


def _read(file: str, count: int) -> list[Any] | None:
    """A machine that went down may have left a file's name, and not all that it held."""
    try:
        found = [json.loads(line) for line in (read_text(file) or "").splitlines()]
    except ValueError:
        return None
    return found if len(found) == count else None
