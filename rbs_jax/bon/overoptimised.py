"""How far the gold score follows the proxy as more candidates are drawn (arXiv:2210.10760)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rbs_jax.statistics.figures import Groups, resampled


def kl_upper_bound(n: int) -> float:
    """Of the best of n from the model that drew them [nats]: log n - (n - 1) / n.

    It is an upper bound (arXiv:2401.01879) and no estimate: a model that draws the same few
    responses again and again stays far below it.
    """
    return float(np.log(n) - (n - 1) / n)


def laws(ns: Sequence[int], gains: Groups) -> dict[str, Any] | None:
    """Fits of the gold score's gain over n = 1 to the laws of arXiv:2210.10760, with d = sqrt(KL).

        best_of_n   R(d) = d (alpha - beta d)
        rl          R(d) = d (alpha - beta log d)

    KL is the upper bound, in nats; R in the gold score's unit, over the prompts that have n, each
    less its own mean; least squares in R over all n > 1.
    The law of best of n has its peak at d = alpha / (2 beta), where beta > 0. Intervals are 95%,
    by bootstrap over prompts.

    Args:
      ns: the sizes.
      gains: by n, each prompt's gold score of what is picked less that at n = 1.

    Returns:
      For each law "alpha", "beta", their "_ci95" and "residual" (root mean square, in gold's
      unit), for the first "peak" [d] as well, None where there is none; "points" fitted. None
      for fewer than two points.
    """
    over = [n for n in ns if n > 1]
    if len(over) < 2:
        return None
    means = np.array([gains[str(n)].values.mean() for n in over])
    draws = resampled(gains)
    drawn = np.stack([draws[str(n)] for n in over])
    d = np.sqrt([kl_upper_bound(n) for n in over])
    own = _fit(np.stack([d, -d * d], axis=1), means, drawn)
    alpha, beta = own["alpha"], own["beta"]
    return {
        "points": len(over),
        "best_of_n": own | {"peak": alpha / (2 * beta) if alpha > 0 and beta > 0 else None},
        "rl": _fit(np.stack([d, -d * np.log(d)], axis=1), means, drawn),
    }


def _fit(
    terms: Float[np.ndarray, "N 2"], gains: Float[np.ndarray, " N"], drawn: Float[np.ndarray, "N R"]
) -> dict[str, Any]:
    inverse = np.linalg.pinv(terms)
    alpha, beta = inverse @ gains
    found: dict[str, Any] = {"alpha": float(alpha), "beta": float(beta)}
    for name, draws in zip(("alpha", "beta"), inverse @ drawn, strict=True):
        bounds = None if np.isnan(draws).all() else np.nanpercentile(draws, [2.5, 97.5]).tolist()
        found[f"{name}_ci95"] = bounds
    residual = gains - terms @ np.array([alpha, beta])
    return found | {"residual": float(np.sqrt(np.mean(residual**2)))}
