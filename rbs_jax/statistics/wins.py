"""What scores of right and wrong responses count, by the rules of most benchmarks."""

from collections.abc import Callable
from math import comb

import numpy as np
from jaxtyping import Float

Rule = Callable[[Float[np.ndarray, " S"], int], float]
"""What an item counts, from its responses' scores (NaN for none) and how many come first as right.

Whatever is compared with a response that has no score is lost.
"""


def per_pair(scores: Float[np.ndarray, " S"], right: int) -> float:
    """The share of pairs of a right and a wrong response in order; a tie counts one half."""
    better, worse = scores[:right, None], scores[None, right:]
    return float(((better > worse) + 0.5 * (better == worse)).mean())


def strictly(scores: Float[np.ndarray, " S"], right: int) -> float:
    """1 where every right response is strictly above every wrong one."""
    return float((scores[:right, None] > scores[None, right:]).all())


def on_top(scores: Float[np.ndarray, " S"], right: int) -> float:
    """The share of right ones among the responses that have the highest score."""
    top = scores == scores.max()
    return float(top[:right].sum() / max(top.sum(), 1))


AT_RANDOM: dict[Rule, Callable[[int, int], float]] = {
    per_pair: lambda right, wrong: 0.5,  # noqa: ARG005
    strictly: lambda right, wrong: 1 / comb(right + wrong, right),
    on_top: lambda right, wrong: right / (right + wrong),
}
"""What each rule gives on average for scores drawn at random, by numbers of responses."""
