"""What every layer is made of: weights, RMSNorm, rotary positions, the gated mlp."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from rbs_jax.model.config import RopeScaling, TransformerConfig
from rbs_jax.sharding import activation_spec, einsum, gather, unsharded, weight_spec


def shape_of(letters: str, config: TransformerConfig) -> tuple[int, ...]:
    """The shape of a weight with these axes."""
    return tuple(config.sizes()[letter] for letter in letters)


def normal(key: Array, letters: str, config: TransformerConfig) -> nnx.Param[Array]:
    """A float32 weight drawn from N(0, init_scale^2), born in its sharding."""
    shape, spec = shape_of(letters, config), weight_spec(letters)
    drawn = jax.random.normal(key, shape, jnp.float32, out_sharding=spec)
    return nnx.Param(config.init_scale * drawn)


def constant(value: float, letters: str, config: TransformerConfig) -> nnx.Param[Array]:
    """A float32 weight of one value, born in its sharding."""
    shape, spec = shape_of(letters, config), weight_spec(letters)
    return nnx.Param(jnp.full(shape, value, jnp.float32, out_sharding=spec))


def widen(dtype: jnp.dtype) -> jnp.dtype:
    """Float32 at least: less is too coarse for norms, softmax and scores."""
    return jnp.promote_types(dtype, jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def look_up(
    table_VD: Float[Array, "V D"], tokens: Int[Array, "..."], letters: str, dtype: jnp.dtype
) -> Float[Array, "..."]:
    """The table's rows at token ids whose axes are `letters`, in `dtype`.

    A row's gradient is summed over its tokens in the table's own dtype: in bfloat16 a
    frequent token's would stop growing after some hundred terms.
    """
    x = _parts(table_VD, tokens, letters).astype(dtype)
    return jax.sharding.reshard(x, activation_spec(letters + "D"))


def _parts(table_VD: Array, tokens: Array, letters: str) -> Array:
    """All tokens' rows, of which a device has its part of the width, as of the table.

    So no device ever holds the whole table or its gradient: texts are what changes hands.
    """
    spec = unsharded(activation_spec(letters))
    whole = jax.sharding.reshard(tokens, spec)
    return table_VD.at[whole].get(out_sharding=PartitionSpec(*spec, *weight_spec("D")))


def _look_up_forward(
    table_VD: Array, tokens: Array, letters: str, dtype: jnp.dtype
) -> tuple[Array, tuple[Array, Array]]:
    return look_up(table_VD, tokens, letters, dtype), (table_VD, tokens)


def _look_up_backward(
    letters: str, _: jnp.dtype, saved: tuple[Array, Array], dx: Array
) -> tuple[Array, None]:
    table_VD, tokens = saved
    transpose = jax.linear_transpose(lambda table: _parts(table, tokens, letters), table_VD)
    parts = PartitionSpec(*unsharded(activation_spec(letters)), *weight_spec("D"))
    return *transpose(jax.sharding.reshard(dx, parts).astype(table_VD.dtype)), None


look_up.defvjp(_look_up_forward, _look_up_backward)


def add_bias(x: Float[Array, "..."], bias: Float[Array, "..."], letters: str) -> Array:
    """A sum over the last axes, whose letters are given; the bias's gradient is float32."""
    wide = x.astype(widen(x.dtype))
    return (wide + gather(letters, bias)).astype(x.dtype)


@partial(jax.checkpoint, static_argnums=(2, 3))  # keeps x alone for the backward pass
def rms_norm(x: Float[Array, "... X"], scale: Float[Array, " X"], eps: float, axis: str) -> Array:
    """X / sqrt(mean(x^2) + eps) * scale over the last axis, whose letter is `axis`.

    Computed in float32 and returned in x's dtype (arXiv:1910.07467).
    """
    wide = x.astype(widen(x.dtype))
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return (wide * gather(axis, scale)).astype(x.dtype)


def rope_frequencies(config: TransformerConfig) -> Float[Array, " half"]:
    """Radians per position of each rotary pair (arXiv:2104.09864).

    With `rope_scaling`, wavelengths beyond the original context are stretched
    by `factor`, short ones are kept, those between are blended (Llama 3.1).
    """
    pairs = jnp.arange(config.head_dim // 2, dtype=jnp.float32)
    frequency = config.rope_theta ** (-2 * pairs / config.head_dim)
    scaling: RopeScaling | None = config.rope_scaling
    if scaling is None:
        return frequency
    turns = scaling.original_positions * frequency / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = jnp.clip((turns - scaling.low_freq_factor) / span, 0.0, 1.0)
    return kept * frequency + (1 - kept) * frequency / scaling.factor


class Rotation(NamedTuple):
    """The turn of each rotary pair at each position."""

    cos: Float[Array, "G P #S T half"]
    sin: Float[Array, "G P #S T half"]


def rotation_of(positions_GPST: Int[Array, "G P #S T"], config: TransformerConfig) -> Rotation:
    """The turns of positions that are counted from the start of the whole text."""
    angles = positions_GPST[..., None] * rope_frequencies(config)
    # Made once: CPU would fuse them into every layer, and make them anew for every head.
    return jax.lax.optimization_barrier(Rotation(jnp.cos(angles), jnp.sin(angles)))


def rotate(x: Float[Array, "... H"], by: Rotation, heads: int) -> Float[Array, "... H"]:
    """Turn the pairs (x[i], x[i + H/2]), the layout of Hugging Face's Llama weights.

    `heads` axes stand between the positions of `x` and its last axis.
    """
    cos, sin = (y.reshape(*y.shape[:4], *[1] * heads, y.shape[-1]) for y in by)
    first, second = jnp.split(x.astype(widen(x.dtype)), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class Mlp(nnx.Module):
    """SwiGLU: silu(x gate) * (x up), projected down (arXiv:2002.05202); weights stacked over L."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        gate, up, down = jax.random.split(key, 3)
        self.gate = normal(gate, "LDF", config)
        self.up = normal(up, "LDF", config)
        self.down = normal(down, "LFD", config)

    def __call__(self, x_GPSTD: Float[Array, "G P S T D"]) -> Float[Array, "G P S T D"]:
        gate_GPSTF = einsum("GPSTD,DF->GPSTF", x_GPSTD, self.gate[...])
        up_GPSTF = einsum("GPSTD,DF->GPSTF", x_GPSTD, self.up[...])
        return einsum("GPSTF,FD->GPSTD", _swiglu(gate_GPSTF, up_GPSTF), self.down[...])


@jax.checkpoint  # what lies between is cheaper to make again than to keep
def _swiglu(gate: Float[Array, "... F"], up: Float[Array, "... F"]) -> Float[Array, "... F"]:
    wide = widen(gate.dtype)
    return (jax.nn.silu(gate.astype(wide)) * up.astype(wide)).astype(gate.dtype)
