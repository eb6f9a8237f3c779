"""What a way of picking is worth as the number n of candidates grows."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rbs_jax.bon.candidates import PerCandidate, Pool
from rbs_jax.bon.subsets import Picks, best, drawn, error
from rbs_jax.choose.answers import majority, strengths, weighted
from rbs_jax.choose.rule import Rule, Scores
from rbs_jax.statistics.figures import Group

Pick = Callable[[Pool, int], Picks]
"""What is picked of a pool when n of its candidates are drawn."""
Worth = Callable[[Pool], PerCandidate]
"""What each candidate is worth."""


class Curve(NamedTuple):
    """A value for each prompt that has n candidates, by n."""

    groups: dict[str, Group]
    errors: list[float]
    """Of the mean at each n, from drawing subsets instead of taking all."""


def sizes(pools: Sequence[Pool]) -> list[int]:
    """1, 2, 4 and so on, as far as the prompts go, and the most candidates that one has."""
    most = max((pool.size for pool in pools), default=0)
    powers = [2**i for i in range(most.bit_length()) if 2**i < most]
    return [*powers, most] if most else []


def curve(pools: Sequence[Pool], ns: Sequence[int], pick: Pick, worth: Worth) -> Curve:
    """The curve over those pools that have n candidates.

    A prompt's value stands as often as the prompt counts.
    """
    groups, errors = {}, []
    for n in ns:
        there = [pool for pool in pools if pool.size >= n]
        values = [pick(pool, n) @ worth(pool) for pool in there]
        counts = np.array([pool.known.weight for pool in there])
        units = np.repeat([pool.prompt for pool in there], counts).tolist()
        groups[str(n)] = Group(np.repeat([own.mean() for own in values], counts), units)
        parts: dict[str, float] = {}
        for pool, count, own in zip(there, counts, values, strict=True):
            # Pools of one prompt share their draws: their errors add up like one.
            parts[pool.prompt] = parts.get(pool.prompt, 0.0) + float(count) * error(own)
        errors.append(math.hypot(*parts.values()) / max(counts.sum(), 1))
    return Curve(groups, errors)


def by_value(of: Callable[[Pool], PerCandidate]) -> Pick:
    """The highest of values."""
    return lambda pool, n: best(of(pool), n)


def by_rule(rule: Rule, of: Callable[[Pool], Float[np.ndarray, "M K"]]) -> Pick:
    """What a rule chooses by scores."""
    if (values := rule.values) is not None:
        return lambda pool, n: best(values(of(pool)), n)

    def pick(pool: Pool, n: int) -> Picks:
        scores = of(pool)

        def choose(places: np.ndarray, chance: np.random.Generator) -> np.ndarray:
            of_subsets: Scores = np.moveaxis(scores[:, places], 0, 1)
            return rule.choose(of_subsets, chance)

        return drawn(pool.size, n, choose, seed_of(pool))

    return pick


def by_majority(pool: Pool, n: int) -> Picks:
    """A candidate with the answer that most have."""
    answers = _numbered(pool)
    return drawn(pool.size, n, lambda places, _: majority(answers[places]), seed_of(pool))


def by_weighted_majority(rule: Rule, pool: Pool, n: int) -> Picks:
    """A candidate with the answer whose candidates have the largest sum of strengths, exp(value).

    Values are the rule's, those of one model its rewards; of a rule without any, mean rewards.
    """
    answers = _numbered(pool)
    scores = pool.scores.mean(axis=0) if rule.values is None else rule.values(pool.scores)

    def choose(places: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return weighted(answers[places], strengths(scores[places]))

    return drawn(pool.size, n, choose, seed_of(pool))


def by_chance(pool: Pool, n: int) -> Picks:
    """Any of them."""
    del n
    return np.full((1, 1, pool.size), 1 / pool.size)


def _numbered(pool: Pool) -> np.ndarray:
    """Answers as numbers, -1 for none."""
    answers = pool.known.answers or []
    numbers = {answer: at for at, answer in enumerate(dict.fromkeys(answers)) if answer is not None}
    return np.array([-1 if answer is None else numbers[answer] for answer in answers], int)


def seed_of(pool: Pool) -> int:
    """Of what is drawn for a prompt."""
    return int(pool.prompt, 16)
