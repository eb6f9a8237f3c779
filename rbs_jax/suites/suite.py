"""A benchmark as one value, and how most of them judge."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rbs_jax.statistics.figures import Group, Groups, Weights, by_counts
from rbs_jax.statistics.wins import AT_RANDOM, Rule
from rbs_jax.suites.items import Item, Scores, unit_of


class Judged(NamedTuple):
    """What scores are worth on a benchmark."""

    values: Float[np.ndarray, " N"]
    """Of each item, between 0 and 1, to compare two models item by item."""
    groups: Groups
    """What the benchmark's averages are made of."""


class Suite(NamedTuple):
    """A benchmark."""

    about: str
    """One line for the page of results."""
    where: str
    """Where its publisher has the files, for whoever lacks them."""
    read: Callable[[str], list[Item]]
    """The items of a file or folder, a path or URL. Raises UserError where a row is not as it
    should be."""
    judge: Callable[[Sequence[Item], Scores], Judged]
    chance: Callable[[Sequence[Item]], Judged]
    """What scores drawn at random are worth on average."""
    averages: Callable[[Sequence[Item]], dict[str, Weights]]
    """Published averages of what these items have, by name; the first is the headline."""


def judge_by(rule: Rule) -> Callable[[Sequence[Item], Scores], Judged]:
    """Judges every item by a rule; a group for each subset."""

    def judge(items: Sequence[Item], scores: Scores) -> Judged:
        own = zip(items, scores, strict=True)
        values = np.array([rule(of_item, item.right) for item, of_item in own])
        return Judged(values, by_subset(items, values))

    return judge


def chance_by(rule: Rule) -> Callable[[Sequence[Item]], Judged]:
    """What random scores are worth by a rule."""

    def chance(items: Sequence[Item]) -> Judged:
        expected = AT_RANDOM[rule]
        values = np.array([expected(i.right, len(i.responses) - i.right) for i in items])
        return Judged(values, by_subset(items, values))

    return chance


def by_subset(items: Sequence[Item], values: Float[np.ndarray, " N"]) -> dict[str, Group]:
    """A group for each subset, in the order in which they come."""
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.subset, []).append(place)
    return {
        name: Group(values[at], [unit_of(items[place].prompt) for place in at])
        for name, at in places.items()
    }


def over_rows(items: Sequence[Item]) -> dict[str, Weights]:
    """The mean over all rows, as a sum over subsets; and that alone."""
    return {"all_rows": rows_of(items)}


def rows_of(items: Sequence[Item]) -> Weights:
    """The mean over these rows, as a sum over their subsets."""
    return by_counts(Counter(item.subset for item in items))
