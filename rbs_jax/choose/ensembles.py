"""Several models' scores made one value a candidate (arXiv:2310.02743).

Scores are taken as they are, so models should have one scale: otherwise the one whose scores are
spread widest decides. Adding a constant to one model's scores cannot change what `mean` picks, but
can what `worst` and `uncertainty_weighted` do: for these, models should be centred too.
"""

import numpy as np

from rbs_jax.choose.rule import Scores, Values, scored

PENALTY = 0.5
"""Lambda: what the paper's code has for best-of-N [1 / reward]."""


def mean(scores: Scores) -> Values:
    """The mean over models, 1/M sum_m r_m [reward]; -inf for a candidate without some score.

    Of one model it is the model's own score: the choice is the argmax.

    Raises:
      ValueError: a score is NaN or +inf.
    """
    return np.where(scored(scores), np.mean(scores, axis=-2, dtype=float), -np.inf)


def worst(scores: Scores) -> Values:
    """WCO, worst-case optimisation: min_m r_m [reward]; -inf for a candidate without some score.

    Raises:
      ValueError: a score is NaN or +inf.
    """
    return np.where(scored(scores), np.min(scores, axis=-2), -np.inf)


def uncertainty_weighted(scores: Scores) -> Values:
    """UWO, uncertainty-weighted optimisation [reward]; -inf for a candidate without some score.

        mean_m r_m - lambda * 1/M sum_m (r_m - mean_m r_m)^2

    The variance is that of the population (over M, not M - 1), lambda `PENALTY`.

    Raises:
      ValueError: a score is NaN or +inf.
    """
    whole = scored(scores)
    rewards = np.where(whole[..., None, :], scores, 0).astype(float)
    penalised = rewards.mean(axis=-2) - PENALTY * rewards.var(axis=-2)
    return np.where(whole, penalised, -np.inf)
