"""Votes over answers: candidates that say the same stand together."""

import numpy as np
from jaxtyping import Float, Int

from rbs_jax.choose.rule import Choice, Values, scored

Answers = Int[np.ndarray, "*B K"]
"""Which answer each of K candidates gives: equal numbers are one answer, -1 is none."""
EQUAL = 1e-9
"""Sums of weights this near the largest, as a share of it, are equal to it."""


def majority(answers: Answers) -> Choice:
    """The answer that most candidates give, self-consistency (arXiv:2203.11171).

    Of several that equally many give, each is as likely; inside an answer its candidates are. Who
    has no answer has no vote; where nobody has one, all candidates share equally.
    """
    return weighted(answers, np.ones(answers.shape))


def weighted(answers: Answers, weights: Float[np.ndarray, "*B K"]) -> Choice:
    """The answer of the largest sum of its candidates' weights; else as `majority`.

    Weighted by a verifier's scores, as in arXiv:2206.02336; here by `strengths`, usually. Sums that
    are equal to within `EQUAL` are equal. Answers whose candidates all have a weight of 0 are
    picked only if there are no others.

    Raises:
      ValueError: a weight is negative or no finite number.
    """
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("a weight is negative or no finite number")
    of_row = answers.reshape(-1, answers.shape[-1]) + 1  # 0 for none
    kinds = of_row.max(initial=0) + 1
    said = of_row + kinds * np.arange(len(of_row))[:, None]
    sums = np.bincount(said.ravel(), weights.ravel())[said]
    total = np.where(of_row > 0, sums, -np.inf)
    top = total >= total.max(axis=-1, keepdims=True) * (1 - EQUAL)
    shares = top / np.bincount(said.ravel())[said]  # 1 an answer: equal ones share equally
    return (shares / shares.sum(axis=-1, keepdims=True)).reshape(answers.shape)


def strengths(scores: Values) -> Float[np.ndarray, "*B K"]:
    """Bradley-Terry strengths, exp(r - max r): from 0 (no score) to 1 (the highest one).

    P(i before j) is i's strength over the sum of both. With them `weighted` is the `majority` where
    all scores are equal. All are 1 where nobody has a score.

    Args:
      scores: rewards; -inf is none.

    Raises:
      ValueError: a score is NaN or +inf.
    """
    someone = scored(scores[..., None, :]).any(axis=-1, keepdims=True)
    best = np.where(someone, scores.max(axis=-1, keepdims=True), 0)
    return np.where(someone, np.exp(np.asarray(scores, float) - best), 1.0)
