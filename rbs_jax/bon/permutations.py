"""Whether scores that say nothing would pick as well: a test by permutations within prompts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from rbs_jax.bon.candidates import Pool
from rbs_jax.bon.curves import Worth, by_rule
from rbs_jax.bon.subsets import shares
from rbs_jax.choose.rule import Rule
from rbs_jax.statistics.beside import ROUNDING

DRAWS = 2000
LEVEL = 0.025
"""Above it scores pass for blind ones: one side of 95%."""


class _Texts(NamedTuple):
    """The different texts among a prompt's K candidates."""

    first: Int[np.ndarray, " T"]
    """The place of the first candidate of each."""
    copies: Int[np.ndarray, " T"]
    worth: Float[np.ndarray, " T"]
    """The sum over the copies."""
    of_candidate: Int[np.ndarray, " K"]


def blind(pools: Sequence[Pool], ns: Sequence[int], rule: Rule, worth: Worth) -> list[float]:
    """For each n the share of blind draws that pick at least as well, one of them the own.

    A blind draw deals a prompt's scores out among its texts anew, in every prompt. If scores say
    nothing of what texts are worth, all such deals are as likely as the one that is, however few
    prompts have better and worse ones; where the shares right are lopsided and few, an interval by
    bootstrap is too sure. Copies of a text have one score in every deal, and so have the texts of
    a prompt that stands in several lines. Of a rule without values, a deal is among the texts of as
    many copies, which is as exact and sees less.
    """
    sums = np.zeros((len(ns), 1 + DRAWS))
    for pool in pools:
        values = worth(pool)
        if len(values) and np.ptp(values) > 0:
            there = [at for at, n in enumerate(ns) if n <= pool.size]
            picked = _by_votes if rule.values is None else _by_values
            dealt = picked(pool, _texts(pool, values), [ns[at] for at in there], rule)
            sums[there] += pool.known.weight * np.array(dealt)
    reached = (sums[:, 1:] >= sums[:, :1] - ROUNDING).sum(axis=1)
    return [(1 + int(count)) / (1 + DRAWS) for count in reached]


def _by_values(pool: Pool, texts: _Texts, ns: Sequence[int], rule: Rule) -> list[np.ndarray]:
    """What is picked is worth, for each n in every deal."""
    assert rule.values is not None
    values = rule.values(pool.scores)[texts.first]
    order = np.argsort(values)
    others = _chance(pool).permuted(np.tile(order, (DRAWS, 1)), axis=1)
    deals = np.concatenate([order[None], others])
    return [_best(values[order], texts.copies[deals], texts.worth[deals], n) for n in ns]


def _by_votes(pool: Pool, texts: _Texts, ns: Sequence[int], rule: Rule) -> list[np.ndarray]:
    """The same, of deals among texts of as many copies: what is picked of each text stays."""
    pick, chance = by_rule(rule, lambda own: own.scores), _chance(pool)
    deals = np.tile(np.arange(len(texts.copies)), (1 + DRAWS, 1))
    for count in np.unique(texts.copies):
        own = np.flatnonzero(texts.copies == count)
        deals[1:, own] = chance.permuted(deals[1:, own], axis=1)
    each = (texts.worth / texts.copies)[deals]
    picks = (pick(pool, n).mean(axis=(0, 1)) for n in ns)
    return [each @ np.bincount(texts.of_candidate, own) for own in picks]


def _texts(pool: Pool, worth: Float[np.ndarray, " K"]) -> _Texts:
    _, first, at, copies = np.unique(
        pool.texts, return_index=True, return_inverse=True, return_counts=True
    )
    return _Texts(first, copies, np.bincount(at, worth), at)


def _chance(pool: Pool) -> np.random.Generator:
    """The same for the same prompt and texts."""
    names = [pool.prompt, *sorted(set(pool.texts))]
    return np.random.default_rng([int(name, 16) for name in names])


def _best(
    values: Float[np.ndarray, " T"],
    copies: Int[np.ndarray, "D T"],
    worth: Float[np.ndarray, "D T"],
    n: int,
) -> Float[np.ndarray, " D"]:
    """The mean worth of the highest of n, as `subsets.best` has it, in every deal.

    Args:
      values: from the lowest to the highest.
      copies: of the text that has each value.
      worth: the sum over its copies.
      n: how many are drawn.
    """
    starts = np.flatnonzero(np.concatenate([[True], values[1:] > values[:-1]]))
    sizes = np.add.reduceat(copies, starts, axis=1)
    upto = sizes.cumsum(axis=1)
    share = shares(int(copies[0].sum()), n)
    held = (share[upto] - share[upto - sizes]) / sizes
    return (held * np.add.reduceat(worth, starts, axis=1)).sum(axis=1)
