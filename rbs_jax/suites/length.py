"""What length has to do with a score: wins by which side is longer, and correlation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rbs_jax.statistics.figures import Group, Groups, Means, Weights, interval_of, mean, resampled
from rbs_jax.statistics.within import centred, correlation, ranks
from rbs_jax.suites.items import Item, Scores, prompts_of, unit_of

LONGER = {"right_longer": 1, "wrong_longer": -1, "equal": 0}
"""Which side of a pair has more characters, and the sign of the difference."""
BALANCED = {"right_longer": 0.5, "wrong_longer": 0.5}


def by_length(items: Sequence[Item], scores: Scores) -> dict[str, Any]:
    """Accuracy by which side is longer, the balanced one, and how scores go with length.

    Length is in characters of the response. Each pair of a right and a wrong response of an item
    counts 1 for a higher score, 1/2 for a tie, 0 otherwise, or where either has no score:

        right_longer, wrong_longer, equal   n pairs, their mean, its 95% interval over prompts
        balanced      (right_longer + wrong_longer) / 2: the accuracy if the right one were the
                      longer as often as not. Length alone gets 1/2, whatever the benchmark; it
                      is simpler than length-controlled win rates (arXiv:2404.04475), which fit
                      a logistic regression
        correlation   of scores with log(1 + length): see `score_with_length`

    None for an accuracy of no pairs (balanced: none of one of the two kinds).
    """
    groups = _groups(items, scores)
    means = resampled(groups)
    found: dict[str, Any] = {
        name: {"n": len(groups[name].values) if name in groups else 0}
        | _accuracy(groups, means, {name: 1.0})
        for name in LONGER
    }
    return found | {
        "balanced": _accuracy(groups, means, BALANCED),
        "correlation": score_with_length(items, scores),
    }


def _groups(items: Sequence[Item], scores: Scores) -> dict[str, Group]:
    """The wins of pairs, by which side is longer; of those that there are."""
    wins: list[Float[np.ndarray, " N"]] = [np.zeros(0)]
    signs: list[Int[np.ndarray, " N"]] = [np.zeros(0, int)]
    units: list[str] = []
    for item, own in zip(items, scores, strict=True):
        lengths = np.array([len(response) for response in item.responses])
        better, worse = own[: item.right, None], own[None, item.right :]
        wins.append(((better > worse) + 0.5 * (better == worse)).ravel())
        signs.append(np.sign(lengths[: item.right, None] - lengths[None, item.right :]).ravel())
        units += [unit_of(item.prompt)] * len(wins[-1])
    win, sign = np.concatenate(wins), np.concatenate(signs)
    places = {name: np.flatnonzero(sign == wanted) for name, wanted in LONGER.items()}
    return {
        name: Group(win[at], [units[place] for place in at])
        for name, at in places.items()
        if len(at)
    }


def _accuracy(groups: Groups, means: Means, weights: Weights) -> dict[str, Any]:
    if not weights.keys() <= groups.keys():
        return {"accuracy": None, "ci95": None}
    return {"accuracy": mean(groups, weights), "ci95": interval_of(groups, means, weights)}


def score_with_length(items: Sequence[Item], scores: Scores) -> dict[str, Any]:
    """Correlation of scores with log(1 + characters), right and wrong responses alike.

    Over `all` responses that have a score, and `within` prompts, where both are centred by prompt
    first: so that a prompt that asks for much and is scored high does not count.

        pearson   a.b / (|a| |b|) of both, centred
        spearman  the same of ranks, ties sharing theirs; within prompts, of ranks in the prompt
        n         responses

    None where scores or lengths do not differ, or for n = 0.
    """
    prompts = prompts_of(items)
    flat = np.concatenate([np.zeros(0), *scores])
    lengths = [len(response) for item in items for response in item.responses]
    scored = np.isfinite(flat)
    prompts, own, logs = prompts[scored], flat[scored], np.log1p(lengths)[scored]
    found: dict[str, Any] = {"n": len(own)}
    for name, among in (("all", np.zeros_like(prompts)), ("within", prompts)):
        found[name] = {
            "pearson": correlation(centred(own, among), centred(logs, among)),
            "spearman": correlation(
                centred(ranks(own, among), among), centred(ranks(logs, among), among)
            ),
        }
    return found
