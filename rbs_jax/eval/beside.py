"""Figures of a model on a benchmark, each beside the same figure of every control."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbs_jax.suites.figures import (
    Group,
    Means,
    Weights,
    are_few,
    interval,
    interval_of,
    mean,
    resampled,
)
from rbs_jax.suites.items import Item, Scores
from rbs_jax.suites.suite import Judged, Suite, unit_of

CHANCE, HEAD = "chance", "random_head"


def judge_all(
    suite: Suite, items: Sequence[Item], scores: Mapping[str, Scores], heads: Sequence[Scores]
) -> tuple[dict[str, Judged], list[Judged]]:
    """What each kind of scores is worth, the random heads' on average and each alone."""
    judged = {name: suite.judge(items, own) for name, own in scores.items()}
    alone = [suite.judge(items, own) for own in heads]
    groups = {
        name: Group(np.mean([each.groups[name].values for each in alone], axis=0), group.units)
        for name, group in alone[0].groups.items()
    }
    judged[HEAD] = Judged(np.mean([each.values for each in alone], axis=0), groups)
    judged[CHANCE] = suite.chance(items)
    return judged, alone


def beside_controls(
    suite: Suite,
    items: Sequence[Item],
    ours: Judged,
    controls: Mapping[str, Judged],
    heads: Sequence[Judged],
) -> dict[str, Any]:
    """Every average and subset with its 95% interval over prompts, and its controls.

    A figure is inside a control where the interval of its difference from it (the same draws of
    prompts for both) does not lie above 0, or where one of the random heads reaches it. Of fewer
    than FEWEST prompts there is no interval, and every figure is inside.

    Returns:
      "n" items, "prompts", "headline" (the name of the first average), "accuracy", "ci95",
      "controls", "random_heads" and "inside_controls" of that; "averages" and "subsets": the
      same for each. A suite without averages has None for all of the headline's.
    """
    draws = {name: resampled(each.groups) for name, each in controls.items()}
    own = resampled(ours.groups)

    def figure(weights: Weights) -> dict[str, Any]:
        value = mean(ours.groups, weights)
        by_head = [mean(head.groups, weights) for head in heads]
        values: dict[str, float | None] = {"log_likelihood": None}  # where there is none to ask
        values |= {name: mean(each.groups, weights) for name, each in controls.items()}
        few = are_few(ours.groups, weights)
        inside = [name for name in controls if few or not _above(own, draws[name], weights)]
        if value <= max(by_head) and HEAD not in inside:
            inside.append(HEAD)
        return {
            "accuracy": value,
            "ci95": interval_of(ours.groups, own, weights),
            "controls": values,
            "random_heads": by_head,
            "inside_controls": inside,
        }

    averages = {name: figure(weights) for name, weights in suite.averages(items).items()}
    headline = next(iter(averages), None)
    none = dict.fromkeys(("accuracy", "ci95", "controls", "random_heads", "inside_controls"))
    return {
        "n": len(items),
        "prompts": len({unit_of(item.prompt) for item in items}),
        "headline": headline,
        **(none if headline is None else averages[headline]),
        "averages": averages,
        "subsets": {
            name: {"n": len(group.values)} | figure({name: 1.0})
            for name, group in ours.groups.items()
        },
    }


def _above(own: Means, other: Means, weights: Weights) -> bool:
    bounds = interval({name: own[name] - other[name] for name in weights}, weights)
    return bounds is not None and bounds[0] > 0
