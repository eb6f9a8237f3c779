"""The trunk: embeddings, scanned decoder blocks, the final norm."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rbs_jax.model.attention import Attention, KeysValues
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import Mlp, constant, normal, rms_norm, rope_angles, widen
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import activation_spec, gather, spread

REMAT_POLICIES: dict[str, Any] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Block(nnx.Module):
    """One decoder layer; its weights are those of all layers, stacked over L for the scan."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        attention, mlp = jax.random.split(key)
        self.eps = config.norm_eps
        self.attention_norm = constant(1.0, "LD", config)
        self.attention = Attention(attention, config)
        self.mlp_norm = constant(1.0, "LD", config)
        self.mlp = Mlp(mlp, config)

    def __call__(
        self,
        x_GPSTD: Float[Array, "G P S T D"],
        angles: Float[Array, "G P #S T half"],
        prefix: KeysValues | None,
        prefix_lengths_GP: Int[Array, "G P"],
        segments_GPST: Int[Array, "G P S T"] | None = None,
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """The layer's output, and the keys and values of its first text."""
        normed_GPSTD = rms_norm(x_GPSTD, self.attention_norm[...], self.eps, "D")
        y_GPSTD, keys_values = self.attention(
            normed_GPSTD, angles, prefix, prefix_lengths_GP, segments_GPST
        )
        x_GPSTD += y_GPSTD
        normed_GPSTD = rms_norm(x_GPSTD, self.mlp_norm[...], self.eps, "D")
        return x_GPSTD + self.mlp(normed_GPSTD), keys_values


class Transformer(nnx.Module):
    """A decoder without a head."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        embedding, blocks = jax.random.split(key)
        self.config = config
        self.embedding = normal(embedding, "VD", config)
        self.blocks = Block(blocks, config)
        self.final_norm = constant(1.0, "D", config)

    def embed(self, letters: str, tokens: Int[Array, "..."]) -> Float[Array, "..."]:
        """Embeddings of token ids whose axes are `letters`, in the compute dtype."""
        # A table still split along its width would make XLA gather everything, row by row.
        table_VD = gather("VD", self.embedding[...].astype(self.config.dtype))
        return table_VD.at[tokens].get(out_sharding=activation_spec(letters + "D"))

    def __call__(
        self,
        x_GPSTD: Float[Array, "G P S T D"],
        starts_GP: Int[Array, "G P"],
        prefix: KeysValues | None = None,
        segments_GPST: Int[Array, "G P S T"] | None = None,
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """Run embedded texts through all layers.

        Args:
          x_GPSTD: embeddings; a position sees its text's earlier positions.
          starts_GP: position of the texts' first token, and, where a prefix is
            given, how many of its positions are real.
          prefix: keys and values of every layer [L, G, P, C, K, H], from a run of
            this method over the prefixes alone; None without a prefix.
          segments_GPST: the document of each position of a packed block; None
            where a text is one document. Rotary positions tell distances alone,
            so they need no new start.

        Returns:
          Hidden states before the final norm, and the keys and values of the
          first text, stacked over L.
        """
        positions_GPST = starts_GP[..., None, None] + jnp.arange(x_GPSTD.shape[3])
        angles = rope_angles(positions_GPST, self.config)

        def layer(
            x_GPSTD: Array, scanned: tuple[Block, KeysValues | None]
        ) -> tuple[Array, KeysValues]:
            block, layer_prefix = scanned
            return block(x_GPSTD, angles, layer_prefix, starts_GP, segments_GPST)

        if self.config.remat != "none":
            layer = partial(jax.checkpoint, policy=REMAT_POLICIES[self.config.remat])(layer)
        unroll = min(self.config.scan_unroll, self.config.num_layers)
        return jax.lax.scan(layer, x_GPSTD, (self.blocks, prefix), unroll=unroll)

    def normed(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The final norm, in float32."""
        return rms_norm(x.astype(widen(x.dtype)), self.final_norm[...], self.config.norm_eps, "D")


class GridStates(NamedTuple):
    """Hidden states of a grid, before the final norm."""

    prefixes: Float[Array, "G P C D"]
    suffixes: Float[Array, "G P S T D"]
    """Those of every suffix after every prefix."""
    suffix_lengths: Int[Array, "G P S"]


def run_grid(trunk: Transformer, grid: TokenGrid) -> GridStates:
    """Every suffix after every prefix of its grid, each prefix run once for all of them."""
    x_GPCD = trunk.embed("GPC", grid.prefixes)
    starts_GP = jnp.zeros_like(grid.prefix_lengths)
    prefixes_GPSCD, prefix = trunk(x_GPCD[:, :, None], starts_GP)
    num_prefixes = grid.prefixes.shape[1]
    if grid.suffixes.ndim == 3:
        x_GSTD = trunk.embed("GST", grid.suffixes)
        x_GPSTD = under_every_prefix("GPSTD", x_GSTD, num_prefixes)
        lengths_GPS = under_every_prefix("GPS", grid.suffix_lengths, num_prefixes)
    else:
        x_GPSTD = trunk.embed("GPST", grid.suffixes)
        lengths_GPS = grid.suffix_lengths
    x_GPSTD, _ = trunk(x_GPSTD, grid.prefix_lengths, prefix)
    return GridStates(prefixes_GPSCD[:, :, 0], x_GPSTD, lengths_GPS)


def under_every_prefix(letters: str, x: Array, num_prefixes: int) -> Array:
    """Repeat what the grid's prefixes share along a new P axis."""
    return spread(letters, x[:, None], (x.shape[0], num_prefixes, *x.shape[1:]))


def state_at(
    x_GPSTD: Float[Array, "G P S T D"], positions_GPS: Int[Array, "G P S"]
) -> Float[Array, "G P S D"]:
    """The hidden state at one position of each text; zeros before its first."""
    # A masked sum, not a gather: exact, and its gradient needs no scatter. The mask comes
    # before anything is multiplied, so nothing in the padding can reach a score.
    is_there_GPST = jnp.arange(x_GPSTD.shape[3]) == positions_GPS[..., None]
    return jnp.where(is_there_GPST[..., None], x_GPSTD, 0).sum(axis=3)
