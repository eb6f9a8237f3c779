"""The best of n among K candidates, over all subsets of n: in closed form, or over drawn ones."""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

SUBSETS, LEAST = 64, 8
"""About so many are drawn where there is no closed form; all of them where there are no more."""
GAMES = 2**20
"""Pairs of candidates that a rule is given at once, for a tournament's memory."""
IN_ALL = 2**24
"""Pairs in the drawn subsets, for a tournament's time: fewer are drawn of more than 512, and of
more than 1,448 LEAST."""

Picks = Float[np.ndarray, "R S K"]
"""The chance of each candidate to be picked: in R draws of each of S subsets that are all there
are, or of R drawn subsets (S = 1)."""


def best(scores: Float[np.ndarray, " K"], n: int) -> Picks:
    """How likely each candidate has the highest score of n, drawn without replacement; exact.

    A group of equal scores, of which c candidates are not above and b are below, holds the highest
    of n with chance (C(c, n) - C(b, n)) / C(K, n), shared equally inside it. Without ties this is
    C(i - 1, n - 1) / C(K, n) for the i-th lowest, as in the estimator of arXiv:2112.09332 that
    arXiv:2210.10760 uses.

    Args:
      scores: -inf for a candidate without one.
      n: from 1 to K.
    """
    in_order = np.sort(scores)
    below, upto = (in_order.searchsorted(scores, side) for side in ("left", "right"))
    share = shares(len(scores), n)
    return ((share[upto] - share[below]) / (upto - below))[None, None]


@lru_cache
def shares(count: int, n: int) -> Float[np.ndarray, " C"]:
    """C(c, n) / C(count, n) for c from 0 to count, factor by factor: binomials overflow."""
    c = np.arange(count, 0, -1)
    return np.cumprod([1.0, *np.maximum(c - n, 0) / c])[::-1]


def drawn(
    count: int,
    n: int,
    choose: Callable[[Int[np.ndarray, "B n"], np.random.Generator], Float[np.ndarray, "B n"]],
    seed: int,
) -> Picks:
    """What a rule without a closed form picks from subsets of n of `count` candidates.

    Args:
      count: K.
      n: from 1 to K.
      choose: the chance of each place of every subset to be picked.
      seed: of the draws, of which the same ones are made for every rule and model.
    """
    chance = np.random.default_rng(seed)
    subsets = max(LEAST, min(SUBSETS, IN_ALL // n**2))
    if (all_of := math.comb(count, n)) <= SUBSETS:
        once = np.array(list(combinations(range(count), n)))
        places = np.tile(once, (max(2, subsets // all_of), 1, 1))
    else:
        places = chance.permuted(np.tile(np.arange(count), (subsets, 1)), axis=1)[:, None, :n]
    picks = np.zeros((*places.shape[:2], count))
    flat = places.reshape(-1, n)
    at_once = max(1, GAMES // n**2)
    parts = [choose(flat[at : at + at_once], chance) for at in range(0, len(flat), at_once)]
    np.put_along_axis(picks, places, np.concatenate(parts).reshape(places.shape), axis=2)
    return picks


def error(worth: Float[np.ndarray, "R S"]) -> float:
    """The standard error of a mean over draws that comes from drawing.

    Nothing hangs on which subsets were drawn where all of them were, only on what the rule drew.
    """
    draws, all_of = worth.shape
    return 0.0 if draws == 1 else math.sqrt(worth.var(axis=0, ddof=1).mean() / (draws * all_of))
