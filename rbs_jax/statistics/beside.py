"""Figures of groups, each beside the same figure of every control."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbs_jax.statistics.figures import (
    Group,
    Groups,
    Means,
    Weights,
    are_few,
    interval,
    interval_of,
    mean,
    resampled,
)

CHANCE, HEAD = "chance", "random_head"
ROUNDING = 1e-9
"""Differences of figures below it come from the order of sums."""


class Beside:
    """Figures of some groups, each beside the same figure of every control's groups.

    A figure is inside a control where the interval of its difference from it (the same draws of
    prompts for both) does not lie above 0, or where one of the random heads reaches it. Of fewer
    than FEWEST prompts there is no interval, and every figure is inside.
    """

    def __init__(
        self, ours: Groups, controls: Mapping[str, Groups], heads: Sequence[Groups]
    ) -> None:
        """Draw prompts, the same for all.

        Args:
          ours: the groups to judge.
          controls: the same groups by each control's scores, the mean of the heads among them.
          heads: the same by each random head.
        """
        self._ours, self._controls, self._heads = ours, controls, heads
        self._own = resampled(ours)
        self._draws = {name: resampled(groups) for name, groups in controls.items()}

    def figure(self, weights: Weights) -> dict[str, Any]:
        """A weighted sum of groups' means: "accuracy", "ci95", "controls", "random_heads" and
        "inside_controls".
        """  # noqa: D205
        value = mean(self._ours, weights)
        by_head = [mean(head, weights) for head in self._heads]
        few = are_few(self._ours, weights)
        inside = [
            name for name, own in self._draws.items() if few or not _above(self._own, own, weights)
        ]
        if value <= max(by_head) + ROUNDING and HEAD not in inside:
            inside.append(HEAD)
        return {
            "accuracy": value,
            "ci95": interval_of(self._ours, self._own, weights),
            "controls": {name: mean(each, weights) for name, each in self._controls.items()},
            "random_heads": by_head,
            "inside_controls": inside,
        }

    def above(self, name: str, weights: Weights) -> dict[str, Any]:
        """How far a figure is above a control's: "difference", and its "ci95"."""
        own = {group: self._own[group] - self._draws[name][group] for group in weights}
        apart = mean(self._ours, weights) - mean(self._controls[name], weights)
        bounds = interval_of(self._ours, own, weights)
        return {
            "difference": _rounded(apart),
            "ci95": None if bounds is None else [_rounded(bound) for bound in bounds],
        }


def _rounded(difference: float) -> float:
    return 0.0 if abs(difference) < ROUNDING else difference


def averaged(heads: Sequence[Groups]) -> dict[str, Group]:
    """Groups whose values are the mean of several heads'."""
    return {
        name: Group(np.mean([head[name].values for head in heads], axis=0), group.units)
        for name, group in heads[0].items()
    }


def _above(own: Means, other: Means, weights: Weights) -> bool:
    bounds = interval({name: own[name] - other[name] for name in weights}, weights)
    return bounds is not None and bounds[0] > ROUNDING
