"""Many items to a scorer: some at a time, with a bar on a terminal and plain lines elsewhere."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm import tqdm

from rbs_jax.data.sources import in_batches
from rbs_jax.data.template import Prompt
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
    terminal = sys.stderr.isatty()
    with tqdm(total=len(items), desc=what, unit="item", disable=not terminal) as bar:
        for portion in in_batches(items, PORTION):
            answers += ask(
                [item.prompt for item in portion],
                [item.responses for item in portion],
                [f"item {item.id}" for item in portion],
            )
            bar.update(len(portion))
            if not terminal:
                print(f"{what}: {len(answers)} of {len(items)} items", file=sys.stderr, flush=True)
    return answers
