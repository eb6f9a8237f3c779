"""The best point of a curve, and why not to believe it."""

from typing import Any

import numpy as np

from rbs_jax.statistics.figures import Group, Groups, interval_of, resampled


def best_point(groups: Groups) -> dict[str, Any]:
    """The best point of a curve (the paper's MAP), and one whose n was chosen on other prompts.

    The best of a curve is chosen on what it is measured on, so it is too high, the more so the
    more the curve is noise. For the other, prompts are halved by their digest, and what is best
    on one half is measured on the other, both ways.

    Args:
      groups: by n, of the same prompts.

    Returns:
      "value" and "n" of the best; of the other "elsewhere", its "elsewhere_ci95" over prompts, and
      "elsewhere_n" of both halves, None where a half has no prompt.
    """
    best = _best(groups)
    found = {"value": float(groups[best].values.mean()), "n": int(best)}
    halves = [{n: _half(group, side) for n, group in groups.items()} for side in (0, 1)]
    if not all(len(half[best].values) for half in halves):
        return found | dict.fromkeys(("elsewhere", "elsewhere_ci95", "elsewhere_n"))
    chosen = [_best(other) for other in reversed(halves)]
    own = [half[n] for half, n in zip(halves, chosen, strict=True)]
    units = [unit for group in own for unit in group.units]
    both = {"": Group(np.concatenate([group.values for group in own]), units)}
    return found | {
        "elsewhere": float(both[""].values.mean()),
        "elsewhere_ci95": interval_of(both, resampled(both), {"": 1.0}),
        "elsewhere_n": [int(n) for n in chosen],
    }


def _best(groups: Groups) -> str:
    """The n of the highest mean, the smallest of equals."""
    return max(groups, key=lambda n: float(groups[n].values.mean()))


def _half(group: Group, side: int) -> Group:
    at = [place for place, unit in enumerate(group.units) if int(unit, 16) % 2 == side]
    return Group(group.values[at], [group.units[place] for place in at])
