"""The reward model: a scalar head on the trunk, and the score grid."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import normal
from rbs_jax.model.transformer import (
    Prefix,
    Transformer,
    run_prefixes,
    run_suffixes,
    under_every_prefix,
)
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import einsum


class RewardModel(nnx.Module):
    """A decoder trunk and a scalar head without bias, but for a constant offset."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        trunk, head = jax.random.split(key)
        self.offset = config.head_offset
        self.trunk = Transformer(trunk, config)
        self.head = normal(head, "D", config)

    def rewards(self, x_GPSTD: Float[Array, "G P S 1 D"]) -> Float[Array, "G P S"]:
        """The head's value at each text's last real token, in float32."""
        return self.of_features(self.features(x_GPSTD))

    def features(self, x_GPSTD: Float[Array, "G P S 1 D"]) -> Float[Array, "G P S D"]:
        """What the head multiplies: the normed state of each text's last token, in float32."""
        return self.trunk.normed(x_GPSTD[:, :, :, 0])

    def of_features(self, x_GPSD: Float[Array, "G P S D"]) -> Float[Array, "G P S"]:
        """The head's value, in float32."""
        return einsum("GPSD,D->GPS", x_GPSD, self.head[...]) + self.offset


def scores(
    model: RewardModel, tokens_GPST: Int[Array, "G P S T"], lengths_GPS: Int[Array, "G P S"]
) -> Float[Array, "G P S"]:
    """The reward of whole texts, each alone: of its first `length` ids, read at the last."""
    starts_GP = jnp.zeros_like(lengths_GPS[:, :, 0])
    x_GPSTD = model.trunk.embed("GPST", tokens_GPST)
    return model.rewards(model.trunk(x_GPSTD, starts_GP, read_GPS=lengths_GPS - 1)[0])


def score_grid(model: RewardModel, grid: TokenGrid) -> Float[Array, "G P S"]:
    """The reward of every suffix after every prefix of its grid.

    Equal to `scores` of each prefix and suffix concatenated, but each prefix is
    encoded once: its keys and values serve all its suffixes.
    """
    return score_suffixes(model, grid, run_prefixes(model.trunk, grid)[1])


def score_suffixes(model: RewardModel, grid: TokenGrid, prefix: Prefix) -> Float[Array, "G P S"]:
    """The reward of every suffix after prefixes that were run before."""
    return model.of_features(_features(model, grid, prefix))


def grid_features(model: RewardModel, grid: TokenGrid) -> Float[Array, "G P S D"]:
    """What the head multiplies of every suffix after every prefix of its grid."""
    return _features(model, grid, run_prefixes(model.trunk, grid)[1])


def _features(model: RewardModel, grid: TokenGrid, prefix: Prefix) -> Float[Array, "G P S D"]:
    lengths_GPS = under_every_prefix("GPS", grid.suffix_lengths, grid)
    return model.features(run_suffixes(model.trunk, grid, prefix, lengths_GPS - 1))
