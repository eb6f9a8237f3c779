"""The trunk: embeddings, scanned decoder blocks, the final norm."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rbs_jax.model.attention import Attention, KeysValues
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import Mlp, constant, normal, rms_norm, rope_angles, widen
from rbs_jax.sharding import activation_spec, gather

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
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """The layer's output, and the keys and values of its first segment."""
        normed_GPSTD = rms_norm(x_GPSTD, self.attention_norm[...], self.eps, "D")
        y_GPSTD, keys_values = self.attention(normed_GPSTD, angles, prefix, prefix_lengths_GP)
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
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """Run embedded segments through all layers.

        Args:
          x_GPSTD: embeddings; a position sees its segment's earlier positions.
          starts_GP: position of the segments' first token, and, where a prefix is
            given, how many of its positions are real.
          prefix: keys and values of every layer [L, G, P, C, K, H], from a run of
            this method over the prefixes alone; None without a prefix.

        Returns:
          Hidden states before the final norm, and the keys and values of the
          first segment, stacked over L.
        """
        positions_GPST = starts_GP[..., None, None] + jnp.arange(x_GPSTD.shape[3])
        angles = rope_angles(positions_GPST, self.config)

        def layer(
            x_GPSTD: Array, scanned: tuple[Block, KeysValues | None]
        ) -> tuple[Array, KeysValues]:
            block, layer_prefix = scanned
            return block(x_GPSTD, angles, layer_prefix, starts_GP)

        if self.config.remat != "none":
            layer = partial(jax.checkpoint, policy=REMAT_POLICIES[self.config.remat])(layer)
        unroll = min(self.config.scan_unroll, self.config.num_layers)
        return jax.lax.scan(layer, x_GPSTD, (self.blocks, prefix), unroll=unroll)

    def normed(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The final norm, in float32."""
        return rms_norm(x.astype(widen(x.dtype)), self.final_norm[...], self.config.norm_eps, "D")
