"""How far a model's rewards of one prompt's responses lie apart: what a policy can learn from."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rbs_jax.statistics.wins import per_pair
from rbs_jax.statistics.within import Prompts, centred

QUARTILES = {"min": 0, "p25": 25, "p50": 50, "p75": 75, "max": 100}


def reward_variance(
    scores: Float[np.ndarray, " N"],
    prompts: Prompts,
    right: Bool[np.ndarray, " N"] | None = None,
) -> dict[str, Any]:
    """The variance of rewards within each prompt that has at least two (arXiv:2503.15477).

    The paper: however accurate a reward model, if its rewards hardly vary within a prompt, a
    policy learns slowly from it. The time until its expected reward has risen by a given amount
    grows at least as (mean variance)^(-1/3).

        raw        sum (r - mean of prompt)^2 / (K - 1) over a prompt's K rewards [reward^2]:
                   mean, min, 25, 50, 75 %, max over prompts
        whitened   the same of (r - m) / s, where m and s are mean and standard deviation (over N,
                   not N - 1) of all rewards here: without unit, to compare models of any scale.
                   None where all rewards are equal
        accuracy   the share of a prompt's pairs of a right and a wrong response in order, 1/2 for
                   a tie, 0 where either has no score; mean over prompts that have any
        prompts, responses, accuracy_prompts   how many were counted

    Scores that are no finite number are left out, but for accuracy. Figures of nothing are None.

    Args:
      scores: rewards, by one model.
      prompts: what each is a response to.
      right: which are right, if that is known.
    """
    scored = np.isfinite(scores)
    rewards, of = np.asarray(scores, float)[scored], prompts[scored]
    _, at, counts = np.unique(of, return_inverse=True, return_counts=True)
    squares = np.bincount(at, np.square(centred(rewards, of)), len(counts))
    variances = squares[counts > 1] / (counts[counts > 1] - 1)
    scale = float(np.square(centred(rewards, np.zeros_like(of))).sum()) / max(len(rewards), 1)
    found = {
        "raw": _over_prompts(variances),
        "whitened": _over_prompts(variances / scale) if scale else None,
        "prompts": len(variances),
        "responses": int(counts[counts > 1].sum()),
    }
    return found if right is None else found | _accuracy(scores, prompts, right)


def _over_prompts(variances: Float[np.ndarray, " M"]) -> dict[str, float] | None:
    if not len(variances):
        return None
    parts = np.percentile(variances, list(QUARTILES.values()))
    return {"mean": float(variances.mean())} | dict(zip(QUARTILES, parts.tolist(), strict=True))


def _accuracy(
    scores: Float[np.ndarray, " N"], prompts: Prompts, right: Bool[np.ndarray, " N"]
) -> dict[str, Any]:
    order = np.lexsort((~right, prompts))  # of each prompt, the right ones first
    starts = np.flatnonzero(np.diff(prompts[order])) + 1
    counts = [(own, int(right[own].sum())) for own in np.split(order, starts)]
    shares = [per_pair(scores[own], count) for own, count in counts if 0 < count < len(own)]
    return {"accuracy": float(np.mean(shares)) if shares else None, "accuracy_prompts": len(shares)}
