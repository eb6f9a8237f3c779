"""The parts of attention on NVIDIA: cuDNN's fused attention, which jax brings along.

jax's public function merges no parts: it has no way to say which log-sum-exp its
backward pass is to use. So the rules behind it are called, the same ones in
jax 0.10 and 0.11.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as fmha
from jaxtyping import Array, Float, Int

from rbs_jax.model.two_parts import TwoParts

_BTNH = 0


def kernel(window: int | None = None) -> TwoParts:
    """Both parts; the own one sees its latest `window` positions, all where it is None."""
    return TwoParts(CudnnPart(causal=True, window=window), CudnnPart(causal=False))


def takes(head_dim: int, *lengths: int) -> bool:
    """Whether cuDNN computes heads of this size over texts and prefixes of these lengths here.

    jax gives it even lengths alone, and its fused attention asks for Ampere or later; a
    program compiled on a host without a GPU is taken to be for one.
    """
    known = head_dim <= 128 and head_dim % 8 == 0 and not any(n % 2 for n in lengths)
    return known and (jax.default_backend() != "gpu" or fmha.check_compute_capability("8.0"))


@dataclasses.dataclass(frozen=True)
class CudnnPart:
    """A `two_parts.Part` in bfloat16 or float16, without segments."""

    causal: bool
    """Each query sees the keys up to its own position, else those before `lengths`."""
    window: int | None = None
    """The latest positions that a causal query sees, its own among them [tokens]."""

    def forward(
        self,
        q_BTKQH: Float[Array, "B T K Q H"],
        k_BUKH: Float[Array, "B U K H"],
        v_BUKH: Float[Array, "B U K H"],
        lengths_B: Int[Array, " B"] | None,
        segments_BT: Int[Array, "B T"] | None,
    ) -> tuple[Float[Array, "B T K Q H"], Float[Array, "B T K Q"]]:
        """As `two_parts.Part.forward`.

        Raises:
          ValueError: segments were given, which no mask of cuDNN knows.
        """
        if segments_BT is not None:
            raise ValueError("cuDNN's attention knows no segments")
        operands = _operands(q_BTKQH, k_BUKH, v_BUKH, lengths_B)
        # What jax checks this version for concerns a card that is here, not one compiled for.
        version = fmha.check_cudnn_version() if jax.default_backend() == "gpu" else 0
        given = (*operands, *self._settings(), version, True)
        (y_BTNH, lse_BNT), _ = fmha._dot_product_attention_fwd_rule(*given)
        return y_BTNH.reshape(q_BTKQH.shape), lse_BNT.mT.reshape(q_BTKQH.shape[:4])

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
        """As `two_parts.Part.backward`."""
        del segments_BT  # Refused on the way forward.
        operands = _operands(q_BTKQH, k_BUKH, v_BUKH, lengths_B)
        y_BTNH, dy_BTNH = (jax.lax.collapse(x, 2, 4) for x in (y_BTKQH, dy_BTKQH))
        saved = (*operands, jax.lax.collapse(lse_BTKQ, 2, 4).mT, y_BTNH)
        given = (*self._settings(), True, True, saved, (dy_BTNH,))
        dq_BTNH, dk_BUKH, dv_BUKH, *_ = fmha._dot_product_attention_bwd_rule(*given)
        return dq_BTNH.reshape(q_BTKQH.shape), dk_BUKH, dv_BUKH

    def _settings(self) -> tuple[Any, ...]:
        """Scale, seed, dropout, whether there is a bias and its gradient, mask, layout, window."""
        mask = fmha.MaskType.CAUSAL if self.causal else fmha.MaskType.PADDING
        return 1.0, 0, 0.0, (False, False), mask, _BTNH, self.window


def _operands(q: Array, k: Array, v: Array, lengths: Array | None) -> tuple[Any, ...]:
    """Queries, keys, values, bias, their two lengths, their two offsets, the pages of both."""
    none = jnp.zeros(0, q.dtype)
    seen = (none, none)
    if lengths is not None:
        seen = (jnp.full(lengths.shape, q.shape[1], jnp.int32), lengths.astype(jnp.int32))
    return jax.lax.collapse(q, 2, 4), k, v, none, *seen, none, none, none, none
