"""Figures of values: means of groups, weighted sums of those, and their bootstrap intervals.

A benchmark gives each of its groups (a subset, a cell of a matrix) one value an item; its published
averages are weighted sums of groups' means. So one bootstrap serves all of them.
"""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

DRAWS = 2000
"""Of a bootstrap."""
FEWEST = 10
"""Prompts that an interval needs: of fewer that are all right a bootstrap would be certain."""
AT_ONCE = 200
"""Draws whose means are computed together."""


class Group(NamedTuple):
    """Values with a mean."""

    values: Float[np.ndarray, " N"]
    units: Sequence[str]
    """What each value belongs to, a prompt: those of one unit are drawn together."""


Groups = Mapping[str, Group]
Weights = Mapping[str, float]
"""Of groups' means; they need not sum to 1."""
Means = Mapping[str, Float[np.ndarray, " R"]]
"""Of each group, in every draw."""


def mean(groups: Groups, weights: Weights) -> float:
    """A weighted sum of groups' means."""
    return float(sum(weight * groups[name].values.mean() for name, weight in weights.items()))


def by_counts(counts: Mapping[str, int]) -> dict[str, float]:
    """The weights of a mean in which each group counts so often."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def weighted_sum(parts: Iterable[tuple[float, Weights]]) -> dict[str, float]:
    """Of weighted sums."""
    total: dict[str, float] = {}
    for factor, weights in parts:
        for name, weight in weights.items():
            total[name] = total.get(name, 0.0) + factor * weight
    return total


def mean_of(parts: Collection[Weights]) -> dict[str, float]:
    """The plain mean of weighted sums."""
    return weighted_sum((1 / len(parts), weights) for weights in parts)


def resampled(groups: Groups) -> Means:
    """The mean of each group in draws of units, with replacement.

    The same units in the same order have the same draws, so that two models' draws are paired.
    A draw that holds none of a group's units has no mean, NaN; nor has any draw of one unit.
    """
    places: dict[str, int] = {}
    for unit in (unit for group in groups.values() for unit in group.units):
        places.setdefault(unit, len(places))
    if len(places) < 2:
        return {name: np.full(DRAWS, np.nan) for name in groups}
    columns = []
    for group in groups.values():
        at = [places[unit] for unit in group.units]
        columns += [np.bincount(at, weights, len(places)) for weights in (group.values, None)]
    drawn, sums = _draws(len(places)), np.transpose(columns)
    drawn = np.concatenate([drawn[at : at + AT_ONCE] @ sums for at in range(0, DRAWS, AT_ONCE)])
    with np.errstate(invalid="ignore"):
        means = drawn[:, ::2] / drawn[:, 1::2]
    return dict(zip(groups, means.T, strict=True))


@functools.lru_cache(4)
def _draws(units: int) -> UInt8[np.ndarray, "R U"]:
    """How often each unit is drawn."""
    chance = np.random.default_rng(units)
    drawn = np.zeros((DRAWS, units), np.uint8)  # once on average, and never 256 times
    for row in drawn:
        row[:] = np.bincount(chance.integers(units, size=units), minlength=units)
    return drawn


def are_few(groups: Groups, weights: Weights) -> bool:
    """Whether a weighted sum is of too few prompts for an interval."""
    return len({unit for name in weights for unit in groups[name].units}) < FEWEST


def interval_of(groups: Groups, means: Means, weights: Weights) -> list[float] | None:
    """The interval of a weighted sum of groups' means; None of too few prompts."""
    return None if are_few(groups, weights) else interval(means, weights)


def interval(means: Means, weights: Weights) -> list[float] | None:
    """The middle 95% of a weighted sum over the draws; None where there are none."""
    draws = np.asarray(sum(weight * means[name] for name, weight in weights.items()), float)
    if np.isnan(draws).all():
        return None
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return [float(low), float(high)]
