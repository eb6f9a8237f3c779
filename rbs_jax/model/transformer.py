"""The trunk: embeddings, scanned decoder blocks, the final norm."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rbs_jax.model.attention import Attention, KeysValues, Read, at
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import (
    Mlp,
    Rotation,
    constant,
    look_up,
    normal,
    rms_norm,
    rotation_of,
    widen,
)
from rbs_jax.shapes import TokenGrid
from rbs_jax.sharding import PRODUCT, spread

REMAT_POLICIES: dict[str, Any] = {
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCT),
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
        x_GPSUD: Float[Array, "G P S U D"],
        rotation: Rotation,
        prefix: KeysValues | None,
        prefix_lengths_GP: Int[Array, "G P"],
        segments_GPSU: Int[Array, "G P S U"] | None = None,
        read: Read | None = None,
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """The layer's output, and the keys and values of its first text.

        The output is that of every position, or of the `read` ones alone.
        """
        normed_GPSUD = rms_norm(x_GPSUD, self.attention_norm[...], self.eps, "D")
        y_GPSTD, keys_values = self.attention(
            normed_GPSUD, rotation, prefix, prefix_lengths_GP, segments_GPSU, read
        )
        x_GPSTD = x_GPSUD if read is None else at(x_GPSUD, read.positions)
        x_GPSTD += y_GPSTD
        normed_GPSTD = rms_norm(x_GPSTD, self.mlp_norm[...], self.eps, "D")
        return x_GPSTD + self.mlp(normed_GPSTD), keys_values


class Prefix(NamedTuple):
    """Keys and values of the prefixes in every layer, kept for their suffixes."""

    before: KeysValues | list[KeysValues] | None
    """Of all layers but the last: stacked over L by a scan, else a list."""
    last: KeysValues | None


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
        return look_up(self.embedding[...], tokens, letters, jnp.dtype(self.config.dtype))

    def __call__(
        self,
        x_GPSUD: Float[Array, "G P S U D"],
        starts_GP: Int[Array, "G P"],
        prefix: Prefix | None = None,
        segments_GPSU: Int[Array, "G P S U"] | None = None,
        read_GPS: Int[Array, "G P S"] | None = None,
    ) -> tuple[Float[Array, "G P S T D"], Prefix]:
        """Run embedded texts through all layers.

        Args:
          x_GPSUD: embeddings; a position sees its text's earlier positions.
          starts_GP: position of the texts' first token, and, where a prefix is
            given, how many of its positions are real.
          prefix: keys and values of every layer, from a run of this method over
            the prefixes alone; None without a prefix.
          segments_GPSU: the document of each position of a packed block; None
            where a text is one document. Rotary positions tell distances alone,
            so they need no new start.
          read_GPS: the one position of each text that is asked for; None for all. The last
            layer is run for it alone.

        Returns:
          Hidden states before the final norm (T is 1 with `read`), and the keys and
          values of the first text.
        """
        starts_GPST, read = starts_GP[..., None, None], None
        rotation = rotation_of(starts_GPST + jnp.arange(x_GPSUD.shape[3]), self.config)
        if read_GPS is not None:
            read = Read(read_GPS, rotation_of(starts_GPST + read_GPS[..., None], self.config))

        def layer(
            x_GPSUD: Array, scanned: tuple[Block, KeysValues | None], read: Read | None = None
        ) -> tuple[Array, KeysValues]:
            block, layer_prefix = scanned
            return block(x_GPSUD, rotation, layer_prefix, starts_GP, segments_GPSU, read)

        if self.config.remat != "none":
            layer = partial(jax.checkpoint, policy=REMAT_POLICIES[self.config.remat])(layer)
        before, last = prefix or Prefix(None, None)
        scan = self.config.scan_layers
        x_GPSUD, before = _all_but_last(layer, x_GPSUD, self.blocks, before, scan)
        x_GPSTD, last = layer(x_GPSUD, (_slice(self.blocks, -1), last), read)
        return x_GPSTD, Prefix(before, last)

    def normed(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The final norm, in float32."""
        return rms_norm(x.astype(widen(x.dtype)), self.final_norm[...], self.config.norm_eps, "D")


def _slice(stacked: Any, layers: slice | int) -> Any:
    """Some of the layers, or one, of what is stacked over L."""
    return jax.tree.map(lambda x: x[layers], stacked)


def _all_but_last(
    layer: Callable[[Array, Any], tuple[Array, KeysValues]],
    x: Array,
    blocks: Block,
    prefix: Any,
    scan: bool,
) -> tuple[Array, Any]:
    """All layers but the last in turn, each on what `prefix` has of it; leaves theirs."""
    if scan:
        return jax.lax.scan(layer, x, (_slice(blocks, slice(-1)), prefix))
    kept = []
    for index in range(blocks.attention_norm[...].shape[0] - 1):
        x, own = layer(x, (_slice(blocks, index), prefix and prefix[index]))
        kept.append(own)
    return x, kept


def run_prefixes(trunk: Transformer, grid: TokenGrid) -> tuple[Float[Array, "G P D"], Prefix]:
    """The last hidden state of every prefix, zeros of an empty one, and what its suffixes read."""
    x_GPSCD = trunk.embed("GPC", grid.prefixes)[:, :, None]
    starts_GP, last_GP = jnp.zeros_like(grid.prefix_lengths), grid.prefix_lengths - 1
    x_GPSTD, prefix = trunk(x_GPSCD, starts_GP, read_GPS=jnp.maximum(last_GP, 0)[..., None])
    return jnp.where(last_GP[..., None] >= 0, x_GPSTD[:, :, 0, 0], 0), prefix


def run_suffixes(
    trunk: Transformer, grid: TokenGrid, prefix: Prefix, read_GPS: Int[Array, "G P S"] | None = None
) -> Float[Array, "G P S T D"]:
    """Hidden states of every suffix after every prefix of its grid, or one of each."""
    if grid.suffixes.ndim == 3:
        x_GSTD = trunk.embed("GST", grid.suffixes)
        # In float32 for the sum over the prefixes, which is what this is on the way back.
        wide_GSTD = x_GSTD.astype(widen(x_GSTD.dtype))
        x_GPSTD = under_every_prefix("GPSTD", wide_GSTD, grid).astype(x_GSTD.dtype)
    else:
        x_GPSTD = trunk.embed("GPST", grid.suffixes)
    return trunk(x_GPSTD, grid.prefix_lengths, prefix, read_GPS=read_GPS)[0]


def under_every_prefix(letters: str, x: Array, grid: TokenGrid) -> Array:
    """What the grid's prefixes may share, along a new P axis where they do."""
    if grid.suffixes.ndim == 4:
        return x
    return spread(letters, x[:, None], (x.shape[0], grid.prefixes.shape[1], *x.shape[1:]))
