"""`rm_bench`: RM-Bench (arXiv:2410.16184): right against wrong, each in three styles."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import Group, Weights, mean_of
from rbs_jax.suites.items import Item, Scores, id_of, one_of, read_records, texts_of, unit_of
from rbs_jax.suites.suite import Judged, Suite

STYLES = ("concise", "detailed", "markdown")
DOMAINS = {
    "chat": "chat",
    "math": "math",
    "code": "code",
    "safety-refuse": "safety",
    "safety-response": "safety",
}
"""Of a row, and the one that it counts in."""
LEVELS: dict[str, Callable[[int, int], bool]] = {
    "hard": lambda chosen, rejected: chosen < rejected,
    "normal": lambda chosen, rejected: chosen == rejected,
    "easy": lambda chosen, rejected: chosen > rejected,
}
"""Which cells, by the places of both styles, from the plainest to the showiest."""
LEFT_OUT = r"(^|/)total_dataset\.json$"
"""A file that holds all the others once more."""


def read(path: str) -> list[Item]:
    """Rows of {"id", "prompt", "chosen": [3 styles], "rejected": [3 styles], "domain"}.

    Raises:
      UserError: a row lacks a field, a style or has a domain that is none of RM-Bench's.
    """
    items = []
    for record in read_records(path, LEFT_OUT):
        domain = one_of(record, "domain", DOMAINS)
        responses = _styles(record, "chosen") + _styles(record, "rejected")
        items.append(Item(id_of(record), domain, prompt_of(record), responses, len(STYLES)))
    return items


def _styles(record: Record, field: str) -> list[str]:
    texts = texts_of(record, field)
    if len(texts) != len(STYLES):
        raise UserError(f"{record.where}: field {field!r} has {len(texts)} styles, not 3")
    return texts


def judge(items: Sequence[Item], scores: Scores) -> Judged:
    """In every cell 1 where the right response is strictly above the wrong one."""
    grids = [own[:3, None] > own[None, 3:] for own in scores]
    return _judged(items, np.array(grids, float))


def chance(items: Sequence[Item]) -> Judged:
    """One half in every cell."""
    return _judged(items, np.full((len(items), 3, 3), 0.5))


def _judged(items: Sequence[Item], grids: Float[np.ndarray, "N 3 3"]) -> Judged:
    """A group for each cell of each domain."""
    groups = {}
    for domain in dict.fromkeys(DOMAINS[item.subset] for item in items):
        at = [place for place, item in enumerate(items) if DOMAINS[item.subset] == domain]
        units = [unit_of(items[place].prompt) for place in at]
        for row, chosen in enumerate(STYLES):
            for column, rejected in enumerate(STYLES):
                cell = Group(grids[at, row, column], units)
                groups[_cell(domain, chosen, rejected)] = cell
    return Judged(grids.mean((1, 2)), groups)


def _cell(domain: str, chosen: str, rejected: str) -> str:
    return f"{domain}/{chosen}>{rejected}"


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The mean over domains, in all and by how much style helps; and of each domain."""
    domains = list(dict.fromkeys(DOMAINS[item.subset] for item in items))
    of_both = {(domain, level): _level(domain, level) for domain in domains for level in LEVELS}
    of_level = {level: mean_of([of_both[d, level] for d in domains]) for level in LEVELS}
    found: dict[str, Weights] = {"total": mean_of(of_level.values()), **of_level}
    for domain in domains:
        found[domain] = mean_of([of_both[domain, level] for level in LEVELS])
    return found | {f"{domain} {level}": weights for (domain, level), weights in of_both.items()}


def _level(domain: str, level: str) -> Weights:
    """The mean over a level's cells."""
    cells = [
        _cell(domain, chosen, rejected)
        for row, chosen in enumerate(STYLES)
        for column, rejected in enumerate(STYLES)
        if LEVELS[level](row, column)
    ]
    return mean_of([{cell: 1.0} for cell in cells])


RM_BENCH = Suite(
    about="RM-Bench: three styles of a right response against three of a wrong one, by domain",
    where="Hugging Face, data set THU-KEG/RM-Bench, or GitHub, THU-KEG/RM-Bench, folder data",
    read=read,
    judge=judge,
    chance=chance,
    averages=averages,
)
