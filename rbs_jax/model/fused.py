"""Attention in two parts, each by a kernel that never writes its logits down.

The own part is causal, one suffix at a time. The prefix part folds all suffixes into
the query axis, so that a prefix's keys are read where they are and never copied.
Each part says its log-sum-exp beside its output, and those merge the two exactly. The
backward pass hands both parts the merged output and the merged log-sum-exp: then the
weights exp(logit - lse) that a part computes again are those of the whole softmax, and
its row sums of gradient times output too, so the parts' gradients add up to the whole's
(the backward pass of arXiv:2205.14135, whose blocks of keys are the two parts here).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rbs_jax.sharding import activation_spec


class Part(Protocol):
    """Attention to one part of the keys; B texts, U keys. Hashable, equal where the code is."""

    def forward(
        self,
        q_BTKQH: Float[Array, "B T K Q H"],
        k_BUKH: Float[Array, "B U K H"],
        v_BUKH: Float[Array, "B U K H"],
        lengths_B: Int[Array, " B"] | None,
        segments_BT: Int[Array, "B T"] | None,
    ) -> tuple[Float[Array, "B T K Q H"], Float[Array, "B T K Q"]]:
        """The output, and the float32 log of the sum of the exponentials of the logits q k.

        Keys from `lengths` on (at least 1 each) are never seen; where there are
        `segments`, a query sees those of its own number alone.
        """
        ...

    def backward(
        self,
        q_BTKQH: Float[Array, "B T K Q H"],
        k_BUKH: Float[Array, "B U K H"],
        v_BUKH: Float[Array, "B U K H"],
        lengths_B: Int[Array, " B"] | None,
        segments_BT: Int[Array, "B T"] | None,
        y_BTKQH: Float[Array, "B T K Q H"],
        lse_BTKQ: Float[Array, "B T K Q"],
        dy_BTKQH: Float[Array, "B T K Q H"],
    ) -> tuple[Float[Array, "B T K Q H"], Float[Array, "B U K H"], Float[Array, "B U K H"]]:
        """Gradients of q, k and v under the output and log-sum-exp of the whole softmax."""
        ...


class Parts(NamedTuple):
    """The two kernels of one attention."""

    own: Part
    """Causal, over the text itself."""
    prefix: Part
    """Over all of the prefix's keys up to its length."""


class _Texts(NamedTuple):
    """What attention reads; or the layout of each, or its gradient, in the same place."""

    q: Any
    """[G, P, S, T, K, Q, H], scaled."""
    k: Any
    """[G, P, S, T, K, H], as the values."""
    v: Any
    prefix: Any
    """Keys and values [G, P, C, K, H], or None."""
    prefix_lengths: Any
    """[G, P]"""
    segments: Any
    """[G, P, S, T] or None."""


_OUTPUT = activation_spec("GPSTKQH")
_LSE = activation_spec("GPSTKQ")


def attend(
    parts: Parts,
    q_GPSTKQH: Float[Array, "G P S T K Q H"],
    k_GPSTKH: Float[Array, "G P S T K H"],
    v_GPSTKH: Float[Array, "G P S T K H"],
    prefix: tuple[Float[Array, "G P C K H"], Float[Array, "G P C K H"]] | None,
    prefix_lengths_GP: Int[Array, "G P"],
    segments_GPST: Int[Array, "G P S T"] | None = None,
) -> Float[Array, "G P S T K Q H"]:
    """Softmax attention by two kernels; what it computes, `attention.attend` says.

    Each device runs the kernels over its own grids, prefixes and kv heads.
    """
    q_GPSTKQH *= q_GPSTKQH.shape[-1] ** -0.5
    before = None if prefix is None else tuple(prefix)
    texts = _Texts(q_GPSTKQH, k_GPSTKH, v_GPSTKH, before, prefix_lengths_GP, segments_GPST)
    if not jax.sharding.get_abstract_mesh().empty:
        texts = jax.tree.map(jax.sharding.reshard, texts, _layout(texts))
    return _attend(parts, texts)


def _layout(texts: _Texts) -> _Texts:
    """Where each array of `texts` lives."""
    keys, prefix_keys = activation_spec("GPSTKH"), activation_spec("GPCKH")
    return _Texts(
        activation_spec("GPSTKQH"),
        *(keys, keys),
        None if texts.prefix is None else (prefix_keys, prefix_keys),
        activation_spec("GP"),
        None if texts.segments is None else activation_spec("GPST"),
    )


def _per_device(compute: Callable[..., Any], ins: Any, outs: Any) -> Callable[..., Any]:
    """`compute` over each device's own share of arrays that are laid out so."""
    if jax.sharding.get_abstract_mesh().empty:
        return compute
    # The kernels do not say along which mesh axes their results vary, so that is not checked.
    return jax.shard_map(compute, in_specs=ins, out_specs=outs, check_vma=False)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(parts: Parts, texts: _Texts) -> Array:
    return _forward(parts, texts)[0]


def _forward(parts: Parts, texts: _Texts) -> tuple[Array, tuple[_Texts, Array, Array]]:
    merged = _per_device(partial(_merged, parts), (_layout(texts),), (_OUTPUT, _LSE))
    y_GPSTKQH, lse_GPSTKQ = merged(texts)
    return y_GPSTKQH, (texts, y_GPSTKQH, lse_GPSTKQ)


def _backward(parts: Parts, saved: tuple[_Texts, Array, Array], dy_GPSTKQH: Array) -> tuple[_Texts]:
    specs = _layout(saved[0])
    gradients = _per_device(
        partial(_gradients, parts),
        (specs, _OUTPUT, _LSE, _OUTPUT),
        specs._replace(prefix_lengths=None, segments=None),
    )
    return (gradients(*saved, dy_GPSTKQH),)


_attend.defvjp(_forward, _backward)


def _merged(parts: Parts, texts: _Texts) -> tuple[Array, Array]:
    """The output and log-sum-exp of both parts together."""
    own_y, own_lse = parts.own.forward(*_own(texts))
    y_GPSTKQH = own_y.reshape(texts.q.shape)
    lse_GPSTKQ = own_lse.reshape(texts.q.shape[:-1])
    if texts.prefix is None:
        return y_GPSTKQH, lse_GPSTKQ
    before_y, before_lse = parts.prefix.forward(*_before(texts))
    before_y = before_y.reshape(texts.q.shape)
    # Kernels are given one key at least; where there is none, it gets no weight here.
    there_GP1111 = (texts.prefix_lengths > 0)[:, :, None, None, None, None]
    before_lse = jnp.where(there_GP1111, before_lse.reshape(lse_GPSTKQ.shape), -jnp.inf)
    total_GPSTKQ = jnp.logaddexp(lse_GPSTKQ, before_lse)
    own_share = jnp.exp(lse_GPSTKQ - total_GPSTKQ)[..., None]
    before_share = jnp.exp(before_lse - total_GPSTKQ)[..., None]
    y_GPSTKQH = (own_share * y_GPSTKQH + before_share * before_y).astype(texts.q.dtype)
    return y_GPSTKQH, total_GPSTKQ


def _gradients(
    parts: Parts, texts: _Texts, y_GPSTKQH: Array, lse_GPSTKQ: Array, dy_GPSTKQH: Array
) -> _Texts:
    """Gradients of all that is no integer."""
    whole = (y_GPSTKQH, lse_GPSTKQ, dy_GPSTKQH)
    own = _own(texts)
    dq, dk, dv = parts.own.backward(*own, *(_like(own[0], x) for x in whole))
    dq_GPSTKQH = dq.reshape(texts.q.shape)
    dk_GPSTKH, dv_GPSTKH = dk.reshape(texts.k.shape), dv.reshape(texts.v.shape)
    dprefix = None
    if texts.prefix is not None:
        before = _before(texts)
        dq, dk, dv = parts.prefix.backward(*before, *(_like(before[0], x) for x in whole))
        there_GP11111 = (texts.prefix_lengths > 0)[:, :, None, None, None, None, None]
        dq_GPSTKQH += jnp.where(there_GP11111, dq.reshape(texts.q.shape), 0)
        # What a kernel writes for keys behind the length is its own affair.
        shape = texts.prefix[0].shape
        seen_GPC = jnp.arange(shape[2]) < texts.prefix_lengths[..., None]
        dprefix = tuple(jnp.where(seen_GPC[..., None, None], d.reshape(shape), 0) for d in (dk, dv))
    return _Texts(dq_GPSTKQH, dk_GPSTKH, dv_GPSTKH, dprefix, None, None)


def _own(texts: _Texts) -> tuple[Any, ...]:
    """What the own part reads: every suffix is a text."""
    segments = None if texts.segments is None else jax.lax.collapse(texts.segments, 0, 3)
    return (*(jax.lax.collapse(x, 0, 3) for x in (texts.q, texts.k, texts.v)), None, segments)


def _before(texts: _Texts) -> tuple[Any, ...]:
    """What the prefix part reads: a prefix and the queries of all its suffixes are a text."""
    q_BTKQH = jax.lax.collapse(jax.lax.collapse(texts.q, 2, 4), 0, 2)
    keys, values = (jax.lax.collapse(x, 0, 2) for x in texts.prefix)
    return q_BTKQH, keys, values, jnp.maximum(texts.prefix_lengths, 1).reshape(-1), None


def _like(q_BTKQH: Array, x: Array) -> Array:
    """`x`, which has the axes of the queries, folded as they are."""
    return x.reshape(*q_BTKQH.shape[:4], *x.shape[6:])
