"""Scores transformed by how they compare with other answers' to the same prompt, then combined.

What they are compared with, the references, are rewards of the policy's answers: the prompt's own
candidates, where no others are given. A reference of -inf is left out. Each model is compared with
itself alone, so a constant added to one model's scores changes nothing.
"""

import numpy as np
from jaxtyping import Float

from rbs_jax.choose.rule import Scores, Values, scored

References = Float[np.ndarray, "*B M R"]
"""Rewards by M models of R answers to the prompt; -inf is none."""
QUANTILE = 0.85
"""Of the policy's rewards on a prompt: what a good answer's is."""


def log_sigmoid(scores: Scores, references: References | None = None) -> Values:
    """The sum over properties of log-sigmoid-transformed rewards (arXiv:2402.00742).

        u = sum_m log sigma(r_m - ref_m)   [log probability]

    `ref_m` is the 85th percentile of model m's rewards of references, interpolated linearly between
    the two nearest. sigma(r - ref) is the chance that an answer is good in one property, so the sum
    is the log of the product: good in all. What is far above a reference gains hardly more, so the
    choice goes by the property a candidate is worst in. Of one model it is the argmax.
    -inf for a candidate without some score.

    Raises:
      ValueError: a score is NaN or +inf; there are scores but no references for them.
    """
    whole, rewards, others = _compared(scores, references)
    above = rewards - _quantile(others)[..., None]
    return np.where(whole, -np.logaddexp(0, -above).sum(axis=-2), -np.inf)


def par(scores: Scores, references: References | None = None) -> Values:
    """Preference as reward, averaged over models (PAR, arXiv:2502.18770, there for one model).

        u = mean_m mean_j sigma(k (r_m - ref_mj)), k = 1   [probability]

    The chance under Bradley-Terry that the candidate is preferred to a reference. It is bounded: a
    model that is far off its scale moves u by 1/M at most. Of one model it is the argmax. More than
    37 above all references it is 1 in float64, and such candidates are equals.
    -inf for a candidate without some score.

    Raises:
      ValueError: a score is NaN or +inf; there are scores but no references for them.
    """
    whole, rewards, others = _compared(scores, references)
    there = others > -np.inf
    above = rewards[..., :, None] - others[..., None, :]
    preferred = np.exp(-np.logaddexp(0, -above)) * there[..., None, :]
    shares = preferred.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)[..., None]
    return np.where(whole, shares.mean(axis=-2), -np.inf)


def _compared(
    scores: Scores, references: References | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who has a score by every model, the scores with 0 for those who have not, the references."""
    whole = scored(scores)
    others = np.asarray(scores if references is None else references, float)
    scored(others)  # raises for what is no reward
    if (whole.any(axis=-1) & ~(others > -np.inf).any(axis=-1).all(axis=-1)).any():
        raise ValueError("a model has scores but no reference")
    return whole, np.where(whole[..., None, :], scores, 0).astype(float), others


def _quantile(others: References) -> Float[np.ndarray, "*B M"]:
    """The quantile of those that are not -inf, which sorting puts first; of none it is 0."""
    ordered = np.sort(others, axis=-1)
    count = (others > -np.inf).sum(axis=-1, keepdims=True)
    place = others.shape[-1] - count + QUANTILE * np.maximum(count - 1, 0)
    below = np.minimum(place.astype(int), others.shape[-1] - 1)
    above = np.minimum(below + 1, others.shape[-1] - 1)
    low, high = (
        np.where(count, np.take_along_axis(ordered, at, axis=-1), 0) for at in (below, above)
    )
    return (low + (high - low) * (place - below))[..., 0]
