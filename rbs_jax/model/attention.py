"""Attention of suffixes over their prefix and themselves.

One contract serves every use. Queries sit in texts [G, P, S, T]; a query sees its
own text up to itself and, where there is a prefix, all its real positions. Encoding
the prefix itself is the case of one text without a prefix, and so is a packed block,
in which a query sees no document but its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import constant, normal, rms_norm, rotate, widen
from rbs_jax.sharding import einsum, gather


class KeysValues(NamedTuple):
    """The keys and values of one layer for the prefixes, kept for their suffixes."""

    keys: Float[Array, "G P C K H"]
    values: Float[Array, "G P C K H"]


def attend(
    q_GPSTKQH: Float[Array, "G P S T K Q H"],
    k_GPSTKH: Float[Array, "G P S T K H"],
    v_GPSTKH: Float[Array, "G P S T K H"],
    prefix: KeysValues | None,
    prefix_lengths_GP: Int[Array, "G P"],
    window: int | None = None,
    segments_GPST: Int[Array, "G P S T"] | None = None,
) -> Float[Array, "G P S T K Q H"]:
    """Softmax attention in two parts, prefix and own text, under one normaliser.

    The prefix's keys are read once for all suffixes and never copied; positions
    from its length on are never seen, and an empty prefix has no weight at all.
    Of all these, a query sees the latest `window` alone, itself among them, and
    where there are `segments`, only those of its own number.
    Logits, maximum and normaliser are float32.
    """
    wide = widen(q_GPSTKQH.dtype)
    q_GPSTKQH *= q_GPSTKQH.shape[-1] ** -0.5
    positions = jnp.arange(q_GPSTKQH.shape[3])
    own_GPSKQTU = jnp.einsum(
        "GPSTKQH,GPSUKH->GPSKQTU", q_GPSTKQH, k_GPSTKH, preferred_element_type=wide
    )
    seen_TU = _recent(positions[:, None] - positions, window)
    own_GPSKQTU = jnp.where(seen_TU, own_GPSKQTU, -jnp.inf)
    if segments_GPST is not None:
        same_GPSTU = segments_GPST[..., :, None] == segments_GPST[..., None, :]
        own_GPSKQTU = jnp.where(same_GPSTU[:, :, :, None, None], own_GPSKQTU, -jnp.inf)
    top_GPSKQT = own_GPSKQTU.max(axis=-1)
    if prefix is not None:
        before_GPSKQTC = jnp.einsum(
            "GPSTKQH,GPCKH->GPSKQTC", q_GPSTKQH, prefix.keys, preferred_element_type=wide
        )
        behind_GPC = prefix_lengths_GP[..., None] - jnp.arange(prefix.keys.shape[2])
        seen_GPTC = _recent(positions[:, None] + behind_GPC[:, :, None], window)
        seen_GPTC &= behind_GPC[:, :, None] > 0
        before_GPSKQTC = jnp.where(seen_GPTC[:, :, None, None, None], before_GPSKQTC, -jnp.inf)
        top_GPSKQT = jnp.maximum(top_GPSKQT, before_GPSKQTC.max(axis=-1))
    # The maximum only keeps exp() in range and cancels out, so it needs no gradient.
    top = jax.lax.stop_gradient(top_GPSKQT)[..., None]
    own_GPSKQTU = jnp.exp(own_GPSKQTU - top)
    total_GPSKQT = own_GPSKQTU.sum(axis=-1)
    y_GPSTKQH = _weighted("GPSKQTU,GPSUKH->GPSTKQH", own_GPSKQTU, v_GPSTKH)
    if prefix is not None:
        before_GPSKQTC = jnp.exp(before_GPSKQTC - top)
        total_GPSKQT += before_GPSKQTC.sum(axis=-1)
        y_GPSTKQH += _weighted("GPSKQTC,GPCKH->GPSTKQH", before_GPSKQTC, prefix.values)
    total_GPSTKQ = jnp.moveaxis(total_GPSKQT, 5, 3)
    return (y_GPSTKQH / total_GPSTKQ[..., None]).astype(v_GPSTKH.dtype)


def _recent(distance: Int[Array, "..."], window: int | None) -> Bool[Array, "..."]:
    """Which keys are so many positions behind their query that it sees them."""
    return (distance >= 0) & (distance < window) if window is not None else distance >= 0


def _weighted(spec: str, weights: Array, values: Array) -> Array:
    """Values summed under their weights: products in the compute dtype, the sum in float32."""
    wide = widen(values.dtype)
    return jnp.einsum(spec, weights.astype(values.dtype), values, preferred_element_type=wide)


class QkvBiases(nnx.Module):
    """What Qwen2 adds to the query, key and value projections; stacked over L."""

    def __init__(self, config: TransformerConfig) -> None:
        self.query = constant(0.0, "LKQH", config)
        self.key = constant(0.0, "LKH", config)
        self.value = constant(0.0, "LKH", config)


class QkNorms(nnx.Module):
    """Qwen3's RMSNorm scales of each query and key head; stacked over L."""

    def __init__(self, config: TransformerConfig) -> None:
        self.query = constant(1.0, "LH", config)
        self.key = constant(1.0, "LH", config)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions; weights stacked over L."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        query, keys, values, out = jax.random.split(key, 4)
        self.eps, self.window = config.norm_eps, config.sliding_window
        self.query = normal(query, "LDKQH", config)
        self.key = normal(keys, "LDKH", config)
        self.value = normal(values, "LDKH", config)
        self.out = normal(out, "LKQHD", config)
        self.biases = QkvBiases(config) if config.qkv_bias else None
        self.norms = QkNorms(config) if config.qk_norm else None

    def __call__(
        self,
        x_GPSTD: Float[Array, "G P S T D"],
        angles: Float[Array, "G P #S T half"],
        prefix: KeysValues | None,
        prefix_lengths_GP: Int[Array, "G P"],
        segments_GPST: Int[Array, "G P S T"] | None = None,
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """The layer's output, and the keys and values of its first text."""
        q_GPSTKQH = einsum("GPSTD,DKQH->GPSTKQH", x_GPSTD, self.query[...])
        k_GPSTKH = einsum("GPSTD,DKH->GPSTKH", x_GPSTD, self.key[...])
        v_GPSTKH = einsum("GPSTD,DKH->GPSTKH", x_GPSTD, self.value[...])
        if self.biases is not None:
            q_GPSTKQH += gather("KQH", self.biases.query[...]).astype(q_GPSTKQH.dtype)
            k_GPSTKH += gather("KH", self.biases.key[...]).astype(k_GPSTKH.dtype)
            v_GPSTKH += gather("KH", self.biases.value[...]).astype(v_GPSTKH.dtype)
        if self.norms is not None:
            q_GPSTKQH = rms_norm(q_GPSTKQH, self.norms.query[...], self.eps, "H")
            k_GPSTKH = rms_norm(k_GPSTKH, self.norms.key[...], self.eps, "H")
        q_GPSTKQH = rotate(q_GPSTKQH, angles[..., None, None, :])
        k_GPSTKH = rotate(k_GPSTKH, angles[..., None, :])
        y_GPSTKQH = attend(
            *(q_GPSTKQH, k_GPSTKH, v_GPSTKH, prefix),
            *(prefix_lengths_GP, self.window, segments_GPST),
        )
        y_GPSTD = einsum("GPSTKQH,KQHD->GPSTD", y_GPSTKQH, self.out[...])
        return y_GPSTD, KeysValues(k_GPSTKH[:, :, 0], v_GPSTKH[:, :, 0])
