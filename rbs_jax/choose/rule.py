"""What every rule is: scores in, a choice out."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Scores = Float[np.ndarray, "*B M K"]
"""By M models (or samples of one judge, or properties) of each of a prompt's K candidates; a higher
one is better, -inf is none. Leading axes are other draws of candidates, each chosen from alone."""
Values = Float[np.ndarray, "*B K"]
"""One value a candidate: the choice is the one that has the highest."""
Choice = Float[np.ndarray, "*B K"]
"""The chance of each candidate to be picked; sums to 1. Of equals, each has an equal one."""


class Rule(NamedTuple):
    """A way to pick one of a prompt's candidates.

    A candidate that some model has no score for loses to all that every model has one for.
    """

    about: str
    """One line for the page of results."""
    choose: Callable[[Scores, np.random.Generator], Choice]
    """The generator is for rules that draw, such as a tournament's order of games."""
    values: Callable[[Scores], Values] | None = None
    """Given all of a prompt's candidates, what each is worth whichever of the others it is drawn
    with: the choice among any of them is the one of the highest value. None for rules whose
    candidates play each other."""


def scored(scores: Scores) -> Bool[np.ndarray, "*B K"]:
    """Which candidates have a score by every model.

    Raises:
      ValueError: a score is NaN or +inf.
    """
    if not (scores < np.inf).all():
        raise ValueError("a score is neither a finite number nor -inf")
    return np.all(scores > -np.inf, axis=-2)


def highest(values: Values, within: float = 0) -> Choice:
    """The best has it; several of the same highest value share it equally.

    Args:
      values: no NaN.
      within: this far below the highest still counts as equal, for values with rounding errors.
    """
    top = values >= values.max(axis=-1, keepdims=True) - within
    return top / top.sum(axis=-1, keepdims=True)


def by_value(about: str, values: Callable[[Scores], Values]) -> Rule:
    """The rule that picks the highest of values."""
    return Rule(about, lambda scores, _: highest(values(scores)), values)
