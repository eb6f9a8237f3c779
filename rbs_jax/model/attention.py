"""Attention of suffixes over their prefix and themselves.

One contract serves every use. Queries sit in texts [G, P, S, T]; a query sees its
own text up to itself and, where there is a prefix, all its real positions. Encoding
the prefix itself is the case of one text without a prefix, and so is a packed block,
in which a query sees no document but its own.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rbs_jax.model import fused
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import Rotation, add_bias, constant, normal, rms_norm, rotate
from rbs_jax.model.softmax import Part, softmax_attention
from rbs_jax.sharding import einsum, per_device


class KeysValues(NamedTuple):
    """The keys and values of one layer for the prefixes, kept for their suffixes."""

    keys: Float[Array, "G P C K H"]
    values: Float[Array, "G P C K H"]


class Read(NamedTuple):
    """The one position of each text that is asked for."""

    positions: Int[Array, "G P S"]
    """Counted within the text."""
    rotation: Rotation
    """Its own, the prefix counted too."""


def attend(
    q_GPSTKQH: Float[Array, "G P S T K Q H"],
    k_GPSUKH: Float[Array, "G P S U K H"],
    v_GPSUKH: Float[Array, "G P S U K H"],
    prefix: KeysValues | None,
    prefix_lengths_GP: Int[Array, "G P"],
    window: int | None = None,
    segments_GPSU: Int[Array, "G P S U"] | None = None,
    read_GPS: Int[Array, "G P S"] | None = None,
) -> Float[Array, "G P S T K Q H"]:
    """Softmax attention in two parts, prefix and own text, under one normaliser.

    The prefix's keys are read once for all suffixes and never copied; positions
    from its length on are never seen, and an empty prefix has no weight at all.
    There is a query for every position of a text, or for the `read` one alone; it
    sees its text up to itself. Of all these, it sees the latest `window` alone,
    itself among them, and where there are `segments`, only those of its own number.
    """
    if read_GPS is None:
        kernel = fused.implementation(q_GPSTKQH, prefix, window, segments_GPSU)
        if kernel is not None:
            given = q_GPSTKQH, k_GPSUKH, v_GPSUKH, prefix, prefix_lengths_GP, segments_GPSU
            return fused.attend(kernel, *given)
    return _plain(
        *(q_GPSTKQH, k_GPSUKH, v_GPSUKH, prefix, prefix_lengths_GP),
        *(window, segments_GPSU, read_GPS),
    )


def _plain(
    q_GPSTKQH: Array,
    k_GPSUKH: Array,
    v_GPSUKH: Array,
    prefix: KeysValues | None,
    prefix_lengths_GP: Array,
    window: int | None,
    segments_GPSU: Array | None,
    read_GPS: Array | None,
) -> Array:
    """In XLA alone, on any device; it writes the logits down."""
    given = q_GPSTKQH, k_GPSUKH, v_GPSUKH, prefix, prefix_lengths_GP, segments_GPSU, read_GPS
    letters = "GPSTKQH", "GPSTKH", "GPSTKH", "GPCKH", "GP", "GPST", "GPS"
    # On one device axes merge freely.
    return per_device(partial(_attend, window=window), letters, "GPSTKQH", *given)


def _attend(
    q_GPSTKQH: Array,
    k_GPSUKH: Array,
    v_GPSUKH: Array,
    prefix: KeysValues | None,
    prefix_lengths_GP: Array,
    segments_GPSU: Array | None,
    read_GPS: Array | None,
    window: int | None,
) -> Array:
    positions = jnp.arange(k_GPSUKH.shape[3])
    queries_GPST = positions[None, None, None] if read_GPS is None else read_GPS[..., None]
    own_GPSTU = _recent(queries_GPST[..., None] - positions, window)
    if segments_GPSU is not None:
        own_GPSTU &= segments_GPSU[..., :, None] == segments_GPSU[..., None, :]
    # Heads before positions: on CPU, products of few large matrices are the fast ones.
    parts = [Part(jnp.moveaxis(k_GPSUKH, 4, 2), jnp.moveaxis(v_GPSUKH, 4, 2), own_GPSTU)]
    if prefix is not None:
        behind_GPC = prefix_lengths_GP[..., None] - jnp.arange(prefix.keys.shape[2])
        behind_GPSTC = behind_GPC[:, :, None, None]
        seen_GPSTC = _recent(queries_GPST[..., None] + behind_GPSTC, window) & (behind_GPSTC > 0)
        keys, values = (jnp.moveaxis(x, 3, 2)[:, :, :, None] for x in prefix)
        parts.append(Part(keys, values, seen_GPSTC))
    q_GPKSQTH = q_GPSTKQH.transpose(0, 1, 4, 2, 5, 3, 6)
    return softmax_attention(q_GPKSQTH, tuple(parts)).transpose(0, 1, 3, 5, 2, 4, 6)


def _recent(distance: Int[Array, "..."], window: int | None) -> Bool[Array, "..."]:
    """Which keys are so many positions behind their query that it sees them."""
    return (distance >= 0) & (distance < window) if window is not None else distance >= 0


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
        x_GPSUD: Float[Array, "G P S U D"],
        rotation: Rotation,
        prefix: KeysValues | None,
        prefix_lengths_GP: Int[Array, "G P"],
        segments_GPSU: Int[Array, "G P S U"] | None = None,
        read: Read | None = None,
    ) -> tuple[Float[Array, "G P S T D"], KeysValues]:
        """The layer's output, and the keys and values of its first text.

        The output is that of every position, or of the `read` one alone.
        """
        x_GPSTD = x_GPSUD if read is None else at(x_GPSUD, read.positions)
        q_GPSTKQH = einsum("GPSTD,DKQH->GPSTKQH", x_GPSTD, self.query[...])
        k_GPSUKH = einsum("GPSTD,DKH->GPSTKH", x_GPSUD, self.key[...])
        v_GPSUKH = einsum("GPSTD,DKH->GPSTKH", x_GPSUD, self.value[...])
        if self.biases is not None:
            q_GPSTKQH = add_bias(q_GPSTKQH, self.biases.query[...], "KQH")
            k_GPSUKH = add_bias(k_GPSUKH, self.biases.key[...], "KH")
            v_GPSUKH = add_bias(v_GPSUKH, self.biases.value[...], "KH")
        if self.norms is not None:
            q_GPSTKQH = rms_norm(q_GPSTKQH, self.norms.query[...], self.eps, "H")
            k_GPSUKH = rms_norm(k_GPSUKH, self.norms.key[...], self.eps, "H")
        q_GPSTKQH = rotate(q_GPSTKQH, rotation if read is None else read.rotation, heads=2)
        k_GPSUKH = rotate(k_GPSUKH, rotation, heads=1)
        y_GPSTKQH = attend(
            *(q_GPSTKQH, k_GPSUKH, v_GPSUKH, prefix, prefix_lengths_GP),
            *(self.window, segments_GPSU, None if read is None else read.positions),
        )
        y_GPSTD = einsum("GPSTKQH,KQHD->GPSTD", y_GPSTKQH, self.out[...])
        return y_GPSTD, KeysValues(k_GPSUKH[:, :, 0], v_GPSUKH[:, :, 0])


def at(
    x_GPSUD: Float[Array, "G P S U D"], positions_GPS: Int[Array, "G P S"]
) -> Float[Array, "G P S 1 D"]:
    """What stands at one position of each text."""
    # A masked sum, not a gather: exact, and its gradient needs no scatter. The mask comes
    # before anything is multiplied, so nothing in the padding can reach a score.
    is_there_GPSU = jnp.arange(x_GPSUD.shape[3]) == positions_GPS[..., None]
    return jnp.where(is_there_GPSU[..., None], x_GPSUD, 0).sum(axis=3, keepdims=True)
