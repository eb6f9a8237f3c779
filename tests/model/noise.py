"""Models of either kind with noise on every weight, so that no scale is 1 and no bias is 0."""

import jax
import numpy as np

from rbs_jax.model.kinds import shapes_of
from tests.tiny import TINY


def noisy(kind, config=TINY):
    """Drawn on the ambient mesh."""
    chance = np.random.default_rng(0)

    def draw(like):
        noise = 0.3 * chance.normal(size=like.shape) + (like.ndim == 1)
        return jax.device_put(noise.astype(np.float32), jax.typeof(like).sharding.spec)

    return jax.tree.map(draw, shapes_of(kind, config))
