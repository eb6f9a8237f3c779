"""Whether two models differ on the same items: exact sign test, corrected over several benchmarks.

Items are taken to be independent. Where several are variants of one prompt, give their mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class SignTest(NamedTuple):
    """On how many items one model is worth more than another."""

    wins: int
    losses: int
    ties: int
    """Items of equal values; the test leaves them out."""
    p: float
    """Chance of a difference at least as large, in either direction, between equal models."""


def sign_test(ours: Float[np.ndarray, " N"], theirs: Float[np.ndarray, " N"]) -> SignTest:
    """The exact two-sided binomial test of wins against losses (Dixon and Mood 1946).

    With n = wins + losses and m the smaller of them, p = min(1, 2 sum_{k <= m} C(n, k) / 2^n),
    summed in whole numbers, so it is exact for any n; below 5e-324 it is 0. For n = 0 it is 1.

    Args:
      ours: what each item is worth to our model: the same unit as `theirs`, no NaN.
      theirs: the same items, to the other one.

    Raises:
      ValueError: one is NaN.
    """
    if np.isnan(ours).any() or np.isnan(theirs).any():
        raise ValueError("an item without a value")
    wins, losses = int((ours > theirs).sum()), int((ours < theirs).sum())
    return SignTest(wins, losses, len(ours) - wins - losses, _two_sided(wins, losses))


def _two_sided(wins: int, losses: int) -> float:
    decided, term, below = wins + losses, 1, 0
    for k in range(min(wins, losses) + 1):  # term is C(decided, k)
        below += term
        term = term * (decided - k) // (k + 1)
    return min(1.0, 2 * below / 2**decided)


def holm(ps: Sequence[float]) -> list[float]:
    """P-values adjusted for how many there are, in the order given.

    The k-th smallest of m becomes max_{j <= k} min(1, (m - j + 1) p_(j)): whoever believes those
    below 0.05 is wrong about any of them in one case of 20 at most, however the tests depend on
    each other (Holm 1979, Scandinavian Journal of Statistics 6:65-70). Of none it gives none.

    Raises:
      ValueError: one is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in ps):
        raise ValueError(f"not all of {list(ps)} are between 0 and 1")
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted
