"""Figures of a model on a benchmark, each beside the same figure of every control."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbs_jax.statistics.beside import CHANCE, HEAD, Beside, averaged
from rbs_jax.statistics.figures import Weights
from rbs_jax.suites.items import Item, Scores, unit_of
from rbs_jax.suites.suite import Judged, Suite


def judge_all(
    suite: Suite, items: Sequence[Item], scores: Mapping[str, Scores], heads: Sequence[Scores]
) -> tuple[dict[str, Judged], list[Judged]]:
    """What each kind of scores is worth, the random heads' on average and each alone."""
    judged = {name: suite.judge(items, own) for name, own in scores.items()}
    alone = [suite.judge(items, own) for own in heads]
    values = np.mean([each.values for each in alone], axis=0)
    judged[HEAD] = Judged(values, averaged([each.groups for each in alone]))
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

    Returns:
      "n" items, "prompts", "headline" (the name of the first average), "accuracy", "ci95",
      "controls", "random_heads" and "inside_controls" of that; "averages" and "subsets": the
      same for each. A suite without averages has None for all of the headline's.
    """
    beside = Beside(
        ours.groups,
        {name: each.groups for name, each in controls.items()},
        [head.groups for head in heads],
    )

    def figure(weights: Weights) -> dict[str, Any]:
        found = beside.figure(weights)
        asked = {"log_likelihood": None} | found["controls"]  # where there is none to ask
        return found | {"controls": asked}

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
