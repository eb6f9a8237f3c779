"""Whether scores that say nothing would pick as well: a test by permutations within prompts."""

from collections.abc import Sequence

import numpy as np

from rbs_jax.bon.candidates import Pool
from rbs_jax.bon.curves import Pick, Worth
from rbs_jax.statistics.beside import ROUNDING

DRAWS = 2000
LEVEL = 0.025
"""Above it scores pass for blind ones: one side of 95%."""


def blind(pools: Sequence[Pool], ns: Sequence[int], pick: Pick, worth: Worth) -> list[float]:
    """For each n the share of blind draws that pick at least as well, one of them the own.

    A blind draw deals what a prompt's candidates are worth out among them anew, in every prompt. If
    scores say nothing of what candidates of one prompt are worth, all such deals are as likely as
    the one that is, however few prompts have better and worse ones; where the shares right are
    lopsided and few, an interval by bootstrap is too sure.
    """
    own, dealt = np.zeros(len(ns)), np.zeros((len(ns), DRAWS))
    chance = np.random.default_rng(0)
    for pool in pools:
        values = worth(pool)
        if not len(values) or np.ptp(values) == 0:
            continue
        deals = chance.permuted(np.tile(values, (DRAWS, 1)), axis=1)
        for at, n in enumerate(ns):
            if pool.size >= n:
                picks = pick(pool, n).mean(axis=(0, 1)) * pool.known.weight
                own[at] += picks @ values
                dealt[at] += deals @ picks
    reached = (dealt >= own[:, None] - ROUNDING).sum(axis=1)
    return [(1 + int(count)) / (1 + DRAWS) for count in reached]
