"""Where text becomes rewards: a scalar head on the trunk, and the score grid."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import normal
from rbs_jax.model.transformer import Transformer
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import einsum, spread


class RewardModel(nnx.Module):
    """A decoder trunk and a scalar head without bias."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        trunk, head = jax.random.split(key)
        self.trunk = Transformer(trunk, config)
        self.head = normal(head, "D", config)

    def rewards(
        self, x_GPSTD: Float[Array, "G P S T D"], lengths_GPS: Int[Array, "G P S"]
    ) -> Float[Array, "G P S"]:
        """The head's value at each segment's last real token, in float32."""
        # A masked sum, not a gather: exact, and its gradient needs no scatter. The mask
        # comes before the multiplication, so nothing in the padding can reach a score.
        is_last_GPST = jnp.arange(x_GPSTD.shape[3]) == lengths_GPS[..., None] - 1
        x_GPSD = jnp.where(is_last_GPST[..., None], x_GPSTD, 0).sum(axis=3)
        return einsum("GPSD,D->GPS", self.trunk.normed(x_GPSD), self.head[...])


def scores(
    model: RewardModel, tokens_GPST: Int[Array, "G P S T"], lengths_GPS: Int[Array, "G P S"]
) -> Float[Array, "G P S"]:
    """The reward of whole texts, each alone: of its first `length` ids, read at the last."""
    starts_GP = jnp.zeros_like(lengths_GPS[:, :, 0])
    x_GPSTD, _ = model.trunk(model.trunk.embed("GPST", tokens_GPST), starts_GP)
    return model.rewards(x_GPSTD, lengths_GPS)


def score_grid(model: RewardModel, grid: TokenGrid) -> Float[Array, "G P S"]:
    """The reward of every suffix after every prefix of its grid.

    Equal to `scores` of each prefix and suffix concatenated, but each prefix is
    encoded once: its keys and values serve all its suffixes.
    """
    x_GPCD = model.trunk.embed("GPC", grid.prefixes)
    starts_GP = jnp.zeros_like(grid.prefix_lengths)
    _, prefix = model.trunk(x_GPCD[:, :, None], starts_GP)
    num_prefixes = grid.prefixes.shape[1]
    if grid.suffixes.ndim == 3:
        x_GSTD = model.trunk.embed("GST", grid.suffixes)
        x_GPSTD = _under_every_prefix("GPSTD", x_GSTD, num_prefixes)
        lengths_GPS = _under_every_prefix("GPS", grid.suffix_lengths, num_prefixes)
    else:
        x_GPSTD = model.trunk.embed("GPST", grid.suffixes)
        lengths_GPS = grid.suffix_lengths
    x_GPSTD, _ = model.trunk(x_GPSTD, grid.prefix_lengths, prefix)
    return model.rewards(x_GPSTD, lengths_GPS)


def _under_every_prefix(letters: str, x: Array, num_prefixes: int) -> Array:
    """Repeat what the grid's prefixes share along a new P axis."""
    return spread(letters, x[:, None], (x.shape[0], num_prefixes, *x.shape[1:]))


def init_reward_model(key: Array, config: TransformerConfig) -> RewardModel:
    """Fresh weights, each born on its devices; the ambient mesh says which."""
    return jax.jit(RewardModel, static_argnums=1)(key, config)
