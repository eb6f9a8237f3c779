"""Many items to a scorer, some at a time, so that it can be seen how far it is."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rbs_jax.data.sources import in_batches
from rbs_jax.data.template import Prompt
from rbs_jax.score.progress import Progress
from rbs_jax.suites.items import Item

PORTION = 1024
"""Items asked for at once."""
Answer = TypeVar("Answer")


def in_portions(
    items: Sequence[Item],
    what: str,
    ask: Callable[[Sequence[Prompt], Sequence[Sequence[str]], Sequence[str]], list[Answer]],
) -> list[Answer]:
    """What a scorer answers to the prompts, responses and names of all items."""
    answers: list[Answer] = []
    with Progress(what, sum(len(item.responses) for item in items)) as progress:
        for portion in in_batches(items, PORTION):
            answers += ask(
                [item.prompt for item in portion],
                [item.responses for item in portion],
                [f"item {item.id}" for item in portion],
            )
            progress.add(sum(len(item.responses) for item in portion), before=False)
    return answers
