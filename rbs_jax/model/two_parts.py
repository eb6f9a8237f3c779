"""Attention in two parts, each by a kernel that never writes its logits down.

The own part is causal, one suffix at a time. The prefix part folds all suffixes into
the query axis, so that a prefix's keys are read where they are and never copied.
Each part says its log-sum-exp beside its output, and those merge the two exactly. The
backward pass hands both parts the merged output and the merged log-sum-exp: then the
weights exp(logit - lse) that a part computes again are those of the whole softmax, and
its row sums of gradient times output too, so the parts' gradients add up to the whole's
(the backward pass of arXiv:2205.14135, whose blocks of keys are the two parts here).
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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


class TwoParts(NamedTuple):
    """A `fused.Kernel` of two."""

    own: Part
    """Causal, over the text itself."""
    prefix: Part
    """Over all of the prefix's keys up to its length."""

    def __call__(
        self,
        q_GPSTKQH: Float[Array, "G P S T K Q H"],
        k_GPSTKH: Float[Array, "G P S T K H"],
        v_GPSTKH: Float[Array, "G P S T K H"],
        prefix: tuple[Float[Array, "G P C K H"], Float[Array, "G P C K H"]] | None,
        prefix_lengths_GP: Int[Array, "G P"],
        segments_GPST: Int[Array, "G P S T"] | None,
    ) -> Float[Array, "G P S T K Q H"]:
        """As `attention.attend`, of scaled queries."""
        given = (q_GPSTKQH, k_GPSTKH, v_GPSTKH, prefix, prefix_lengths_GP, segments_GPST)
        return _attend(self, *given)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(parts: TwoParts, *given: Any) -> Array:
    return _forward(parts, *given)[0]


def _forward(
    parts: TwoParts, q: Array, k: Array, v: Array, prefix: Any, lengths: Array, segments: Any
) -> tuple[Array, tuple[Any, ...]]:
    """The output, and what the backward pass needs: all that was given, output and lse."""
    own_y, own_lse = parts.own.forward(*_own(q, k, v, segments))
    y_GPSTKQH, lse_GPSTKQ = own_y.reshape(q.shape), own_lse.reshape(q.shape[:-1])
    if prefix is not None:
        before_y, before_lse = parts.prefix.forward(*_before(q, prefix, lengths))
        # Kernels are given one key at least; where there is none, it gets no weight here.
        there_GP1111 = (lengths > 0)[:, :, None, None, None, None]
        before_lse = jnp.where(there_GP1111, before_lse.reshape(lse_GPSTKQ.shape), -jnp.inf)
        total_GPSTKQ = jnp.logaddexp(lse_GPSTKQ, before_lse)
        y_GPSTKQH = jnp.exp(lse_GPSTKQ - total_GPSTKQ)[..., None] * y_GPSTKQH
        y_GPSTKQH += jnp.exp(before_lse - total_GPSTKQ)[..., None] * before_y.reshape(q.shape)
        y_GPSTKQH, lse_GPSTKQ = y_GPSTKQH.astype(q.dtype), total_GPSTKQ
    return y_GPSTKQH, (q, k, v, prefix, lengths, segments, y_GPSTKQH, lse_GPSTKQ)


def _backward(parts: TwoParts, saved: tuple[Any, ...], dy: Array) -> tuple[Any, ...]:
    """Gradients of all that was given; None for integers."""
    q, k, v, prefix, lengths, segments, y, lse = saved
    own = _own(q, k, v, segments)
    whole = (x.reshape(*own[0].shape[:4], *x.shape[6:]) for x in (y, lse, dy))
    dq, dk, dv = parts.own.backward(*own, *whole)
    dq_GPSTKQH, dk_GPSTKH, dv_GPSTKH = dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(v.shape)
    dprefix = None
    if prefix is not None:
        before = _before(q, prefix, lengths)
        whole = (x.reshape(*before[0].shape[:4], *x.shape[6:]) for x in (y, lse, dy))
        dq, dk, dv = parts.prefix.backward(*before, *whole)
        there_GP11111 = (lengths > 0)[:, :, None, None, None, None, None]
        dq_GPSTKQH += jnp.where(there_GP11111, dq.reshape(q.shape), 0)
        # What a kernel writes for keys behind the length is its own affair.
        seen_GPC = jnp.arange(prefix[0].shape[2]) < lengths[..., None]
        dprefix = tuple(
            jnp.where(seen_GPC[..., None, None], d.reshape(prefix[0].shape), 0) for d in (dk, dv)
        )
    return dq_GPSTKQH, dk_GPSTKH, dv_GPSTKH, dprefix, None, None


_attend.defvjp(_forward, _backward)


def _own(q: Array, k: Array, v: Array, segments: Array | None) -> tuple[Any, ...]:
    """What the own part reads: every suffix is a text."""
    segments = None if segments is None else jax.lax.collapse(segments, 0, 3)
    return *(jax.lax.collapse(x, 0, 3) for x in (q, k, v)), None, segments


def _before(q: Array, prefix: tuple[Array, Array], lengths: Array) -> tuple[Any, ...]:
    """What the prefix part reads: a prefix and the queries of all its suffixes are a text."""
    q_BTKQH = jax.lax.collapse(jax.lax.collapse(q, 2, 4), 0, 2)
    keys, values, lengths = (jax.lax.collapse(x, 0, 2) for x in (*prefix, lengths))
    return q_BTKQH, keys, values, jnp.maximum(lengths, 1), None
