"""Softmax attention over several parts of the keys, under one normaliser, in plain XLA.

The parts' gradients follow from the merged output and its log-sum-exp alone
(arXiv:2205.14135, appendix B), so no probability is kept for the backward pass.
"""

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rbs_jax.model.layers import widen


class Part(NamedTuple):
    """Some keys of each text, or with Z = 1 keys that all texts of a prefix share."""

    keys: Float[Array, "G P K Z U H"]
    values: Float[Array, "G P K Z U H"]
    seen: Bool[Array, "#G #P #S T U"] | Any
    """Which keys a query sees; a gradient has none."""


@jax.custom_vjp
def softmax_attention(
    q_GPKSQTH: Float[Array, "G P K S Q T H"], parts: tuple[Part, ...]
) -> Float[Array, "G P K S Q T H"]:
    """The values under softmax(q k / sqrt(H)) over the keys of all parts together.

    Every query must see a key. Logits, maximum and normaliser are float32 at least.
    """
    return _forward(q_GPKSQTH, parts)[0]


def _forward(q_GPKSQTH: Array, parts: tuple[Part, ...]) -> tuple[Array, Any]:
    logits = [_logits(q_GPKSQTH, part) for part in parts]
    top = reduce(jnp.maximum, [x_GPKSQTU.max(axis=-1, keepdims=True) for x_GPKSQTU in logits])
    weights = [jnp.exp(x_GPKSQTU - top) for x_GPKSQTU in logits]
    totals = [x_GPKSQTU.sum(axis=-1, keepdims=True) for x_GPKSQTU in weights]
    products = [
        _by_query("mu,uh->mh", x_GPKSQTU, part.values)
        for x_GPKSQTU, part in zip(weights, parts, strict=True)
    ]
    total, y_GPKSQTH = reduce(jnp.add, totals), reduce(jnp.add, products)
    y_GPKSQTH = (y_GPKSQTH / total).astype(q_GPKSQTH.dtype)
    return y_GPKSQTH, (q_GPKSQTH, parts, y_GPKSQTH, top + jnp.log(total))


def _backward(saved: Any, dy_GPKSQTH: Array) -> tuple[Array, tuple[Part, ...]]:
    q_GPKSQTH, parts, y_GPKSQTH, log_total = saved
    dtype, wide = q_GPKSQTH.dtype, widen(q_GPKSQTH.dtype)
    mean = (dy_GPKSQTH.astype(wide) * y_GPKSQTH).sum(axis=-1, keepdims=True)
    mean = jax.lax.optimization_barrier(mean)  # or CPU would sum it again for every key
    products, dparts = [], []
    for part in parts:
        p_GPKSQTU = jnp.exp(_logits(q_GPKSQTH, part) - log_total)
        dp_GPKSQTU = _by_query("mh,uh->mu", dy_GPKSQTH, part.values)
        ds_GPKSQTU = p_GPKSQTU * (dp_GPKSQTU - mean) * q_GPKSQTH.shape[-1] ** -0.5
        products.append(_by_query("mu,uh->mh", ds_GPKSQTU, part.keys))
        dkeys = _by_key(ds_GPKSQTU, q_GPKSQTH, part.keys)
        dparts.append(Part(dkeys, _by_key(p_GPKSQTU, dy_GPKSQTH, part.values), None))
    return reduce(jnp.add, products).astype(dtype), tuple(dparts)


softmax_attention.defvjp(_forward, _backward)


def _logits(q_GPKSQTH: Array, part: Part) -> Float[Array, "G P K S Q T U"]:
    logits = _by_query("mh,uh->mu", q_GPKSQTH, part.keys) * q_GPKSQTH.shape[-1] ** -0.5
    return jnp.where(part.seen[:, :, None, :, None], logits, -jnp.inf)


def _by_query(spec: str, x: Array, keys: Array) -> Array:
    """Products of what every query has with its part's keys or values."""
    y = _product(f"n{spec.replace(',', ',n').replace('->', '->n')}", _rows(x, keys), _texts(keys))
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _by_key(weights: Array, x: Array, keys: Array) -> Array:
    """The gradient of a part's keys or values: what its queries have, summed under weights."""
    weights, x = (_rows(y, keys) for y in (weights, x))
    if keys.dtype == jnp.bfloat16 and weights.shape[1] % 2 == 0:
        # Summed over two axes, or else CPU would widen bfloat16 and go half as fast.
        weights, x = (y.reshape(len(y), 2, -1, y.shape[-1]) for y in (weights, x))
        return _product("nimu,nimh->nuh", weights, x).astype(keys.dtype).reshape(keys.shape)
    return _product("nmu,nmh->nuh", weights, x).astype(keys.dtype).reshape(keys.shape)


def _rows(x_GPKSQTX: Array, keys: Array) -> Float[Array, "N M X"]:
    """All queries that meet the same keys as the rows of one matrix."""
    return x_GPKSQTX.reshape(len(_texts(keys)), -1, x_GPKSQTX.shape[-1]).astype(keys.dtype)


def _texts(keys: Array) -> Float[Array, "N U H"]:
    """Keys or values, a matrix for each text and head."""
    return keys.reshape(-1, *keys.shape[-2:])


def _product(spec: str, x: Array, y: Array) -> Array:
    """Products in the operands' dtype, summed in float32 at least."""
    return jnp.einsum(spec, x, y, preferred_element_type=widen(y.dtype))
