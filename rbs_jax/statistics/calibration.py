"""Whether margins mean what they say: one of 1 should win 73 times of 100."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

BINS = 15
"""Of the reliability diagram, equally wide between 1/2 and 1."""
NO_LEAST = {
    0: "margins are not above zero on average: the higher, the better",
    math.inf: "no pair is lost: the lower, the better",
}
"""Why there is no best temperature, by the inverse that does best."""

Margins = Float[np.ndarray, " N"]
"""Of pairs, the right response's reward minus the wrong one's."""


def calibration(margins: Margins) -> dict[str, Any]:
    """How far sigma(margin), the chance of winning by Bradley and Terry, is what happens.

    Margins D are rewards; those that are no finite number are left out. With s the logistic
    function, p = s(|D|) and hit = 1 for D > 0, 1/2 for D = 0, else 0:

        ece          sum over bins b of p of n_b / n |mean hit - mean p|   (arXiv:1706.04599)
        brier        mean of (1 - s(D))^2
        loss         mean of -log s(D) [nats]
        temperature  the T > 0 with the least mean of -log s(D / T): 1 for a calibrated model,
                     more for one too sure. Where all T have a better one it is None and
                     `no_temperature` says why
        scaled_loss, scaled_ece  the same of D / T; without a best T, what they tend to
        bins         of each, in order: low, high, n, mean p, share of hits

    For n = 0 all are None but `n`, `left_out` and `bins`; so are a bin's p and hits.
    """
    finite = np.asarray(margins, float)[np.isfinite(margins)]
    bins = reliability(finite)
    counted = {"n": len(finite), "left_out": len(margins) - len(finite), "bins": bins}
    if not len(finite):
        names = ("ece", "brier", "loss", "temperature", "no_temperature")
        return dict.fromkeys((*names, "scaled_loss", "scaled_ece")) | counted
    inverse = _best_inverse(finite)
    scaled = finite * np.clip(inverse, 1e-99, 1e99)  # in the limit wins and ties stay what they are
    return {
        "ece": _ece(bins),
        "brier": float(np.square(_sigma(-finite)).mean()),
        "loss": _loss(finite),
        "temperature": None if inverse in NO_LEAST else 1 / inverse,
        "no_temperature": NO_LEAST.get(inverse),
        "scaled_loss": _loss(scaled),
        "scaled_ece": _ece(reliability(scaled)),
    } | counted


def reliability(margins: Margins) -> list[dict[str, Any]]:
    """The reliability diagram of margins without NaN: what is said and what is so, by bins of p."""
    chances, hits = _sigma(np.abs(margins)), np.heaviside(margins, 0.5)
    at = np.minimum((2 * BINS * (chances - 0.5)).astype(int), BINS - 1)
    counts, said, so = (np.bincount(at, weights, BINS) for weights in (None, chances, hits))
    return [
        {
            "low": 0.5 + b / (2 * BINS),
            "high": 0.5 + (b + 1) / (2 * BINS),
            "n": int(counts[b]),
            "p": float(said[b] / counts[b]) if counts[b] else None,
            "hits": float(so[b] / counts[b]) if counts[b] else None,
        }
        for b in range(BINS)
    ]


def _ece(bins: list[dict[str, Any]]) -> float:
    apart = sum(b["n"] * abs(b["hits"] - b["p"]) for b in bins if b["n"])
    return float(apart / sum(b["n"] for b in bins))


def _sigma(x: Margins) -> Margins:
    return np.exp(-np.logaddexp(0, -x))


def _loss(margins: Margins) -> float:
    return float(np.logaddexp(0, -margins).mean())


def _best_inverse(margins: Margins) -> float:
    """The b = 1/T in [0, inf] with the least mean of -log s(b D), which is convex in b.

    It falls from b = 0 only where the mean of D is above zero, and rises somewhere only where
    some D is below; between, bisection of its slope.
    """
    if math.fsum(margins) <= 0:  # exact: opposite margins make nothing
        return 0.0
    if margins.min() >= 0:
        return math.inf
    largest = float(np.abs(margins).max())
    parts = margins / largest
    low, high = 0.0, 1.0
    while _slope(parts, high) < 0:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(parts, middle) < 0 else (low, middle)
    return high / largest


def _slope(margins: Margins, inverse: float) -> float:
    return float(-(margins * _sigma(-inverse * margins)).mean())
