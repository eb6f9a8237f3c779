"""How far apart two reward models are, whatever the scale of their rewards."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rbs_jax.statistics.within import Prompts, centred, comparable


class Distance(NamedTuple):
    """Between two reward models, on the same responses."""

    distance: float | None
    """0: they order every policy alike; 1: the other way round."""
    prompts: int
    responses: int
    """Of those prompts."""


def distance(
    ours: Float[np.ndarray, " N"], theirs: Float[np.ndarray, " N"], prompts: Prompts
) -> Distance:
    """The STARC distance of two reward models (arXiv:2309.15257), for problems of a single step.

    The paper canonicalises rewards, divides by a norm and takes a metric. With one step, no next
    state, and a prompt's responses equally likely, that is: c = rewards minus their prompt's mean;
    s = c / |c| over all responses, or 0 where c is 0; and

        distance = |s(ours) - s(theirs)| / 2

    It does not change if a model's rewards are multiplied by a positive number, or anything is
    added to all of a prompt's. For two that are not 0 it is sqrt((1 - rho) / 2), with rho their
    correlation within prompts, pooled. 0 for two models that are constant within prompts, 1/2 for
    one that is and one that is not.

    Rewards that are no finite number in either model are left out, and then responses without
    another one to their prompt; where none are left, the distance is None.
    """
    scored = np.isfinite(ours) & np.isfinite(theirs)
    kept = np.flatnonzero(scored)[comparable(prompts[scored])]
    of = prompts[kept]
    apart = _standard(ours[kept], of) - _standard(theirs[kept], of)
    return Distance(
        float(np.linalg.norm(apart)) / 2 if len(kept) else None, len(np.unique(of)), len(kept)
    )


def _standard(rewards: Float[np.ndarray, " M"], prompts: Prompts) -> Float[np.ndarray, " M"]:
    own = centred(np.asarray(rewards, float), prompts)
    norm = np.linalg.norm(own)
    return own / norm if norm else own
