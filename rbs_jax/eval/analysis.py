"""What scores say beyond being right: their length bias, calibration and spread."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rbs_jax.statistics.calibration import calibration
from rbs_jax.statistics.variance import reward_variance
from rbs_jax.suites.items import Item, Scores, prompts_of
from rbs_jax.suites.length import by_length


def analysis(items: Sequence[Item], scores: Scores) -> dict[str, Any]:
    """Of a model's rewards "length", "calibration" and "reward_variance" within prompts.

    Each is what the function of that name returns; margins are those of all pairs of an item's
    right and wrong responses.
    """
    pairs = zip(items, scores, strict=True)
    margins = [(own[: item.right, None] - own[None, item.right :]).ravel() for item, own in pairs]
    right = np.concatenate([np.arange(len(item.responses)) < item.right for item in items])
    rewards, prompts = np.concatenate(scores), prompts_of(items)
    return {
        "length": by_length(items, scores),
        "calibration": calibration(np.concatenate(margins)),
        "reward_variance": reward_variance(rewards, prompts, right if right.any() else None),
    }
