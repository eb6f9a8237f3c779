"""Attention on TPU: the splash attention kernel that jax brings along.

Its mask is static, so that a prefix and a text stand behind one another as keys: a query
sees the text up to itself and all of the prefix, of which the padding has a number that
no query has. That copies a prefix's keys for each suffix. Two parts merged by
log-sum-exp, as in two_parts.py, would not. Yet compiled for a v5e at the sizes of Llama
3.2-1B and 3.1-8B they move 1.1 to 1.9 times the bytes: there are two outputs then, and the
kernel writes every log-sum-exp 128 times over, which is more than a few heads of keys.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Float, Int

from rbs_jax.model.layers import widen

_LANES = 128
_BLOCKS = (512, 384, 256, 128)


@dataclasses.dataclass(frozen=True)
class Splash:
    """A `fused.Kernel`; texts are padded to a multiple of 128 positions."""

    window: int | None = None
    """The latest positions that a query sees, its own among them; without a prefix [tokens]."""
    interpret: bool = False
    """Run the kernel step by step on any device, slowly: for tests."""

    def __call__(
        self,
        q_GPSTKQH: Float[Array, "G P S T K Q H"],
        k_GPSTKH: Float[Array, "G P S T K H"],
        v_GPSTKH: Float[Array, "G P S T K H"],
        prefix: tuple[Float[Array, "G P C K H"], Float[Array, "G P C K H"]] | None,
        prefix_lengths_GP: Int[Array, "G P"],
        segments_GPST: Int[Array, "G P S T"] | None,
    ) -> Float[Array, "G P S T K Q H"]:
        """As `attention.attend`, of scaled queries.

        Raises:
          ValueError: a prefix stands before a window or segments, which no static mask can say.
        """
        if prefix is not None and not (self.window is None and segments_GPST is None):
            raise ValueError("splash attention takes no prefix with a window or with segments")
        before, seen = 0, None
        if segments_GPST is not None:
            numbers_BT = _padded(jax.lax.collapse(segments_GPST, 0, 3), 1)
            seen = splash.SegmentIds(numbers_BT, numbers_BT)
        if prefix is not None:
            before = prefix[0].shape[2]
            k_GPSTKH = _behind(prefix[0], k_GPSTKH)
            v_GPSTKH = _behind(prefix[1], v_GPSTKH)
        q_BNTH, k_BKUH, v_BKUH = (_heads_first(x) for x in (q_GPSTKQH, k_GPSTKH, v_GPSTKH))
        if prefix is not None:
            places = jnp.arange(k_BKUH.shape[2])
            padding_GPU = (places >= prefix_lengths_GP[..., None]) & (places < before)
            padding_BU = jnp.repeat(padding_GPU.reshape(-1, len(places)), q_GPSTKQH.shape[2], 0)
            queries_BT = jnp.zeros(q_BNTH.shape[::2], jnp.int32)
            seen = splash.SegmentIds(queries_BT, padding_BU.astype(jnp.int32))
        kernel = self._kernel(q_BNTH.shape[1], q_BNTH.shape[2], k_BKUH.shape[2], before)
        y_BNTH: Array = jax.vmap(kernel)(q_BNTH, k_BKUH, v_BKUH, seen)  # type: ignore[assignment]
        return y_BNTH.swapaxes(1, 2)[:, : q_GPSTKQH.shape[3]].reshape(q_GPSTKQH.shape)

    def _kernel(
        self, heads: int, queries: int, keys: int, before: int
    ) -> splash.SplashAttentionKernel:
        """The kernel of so many heads and positions, of which `before` are the prefix's."""
        mask: masks.Mask = masks.CausalMask((queries, keys), before)
        if self.window is not None:
            mask = masks.LocalMask((queries, keys), (self.window - 1, 0), 0)
        q, kv = _block(queries), _block(keys)
        return splash.make_splash_mha(
            masks.MultiHeadMask([mask] * heads),
            block_sizes=splash.BlockSizes(
                *(q, kv), block_q_dkv=q, block_kv_dkv=kv, block_q_dq=q, block_kv_dq=kv
            ),
            head_shards=1,
            q_seq_shards=1,
            interpret=self.interpret,
        )


def _block(length: int) -> int:
    """The largest block that divides the length."""
    return next(block for block in _BLOCKS if length % block == 0)


def _behind(before_GPCKH: Array, own_GPSTKH: Array) -> Array:
    """A prefix's keys or values before those of each of its suffixes."""
    # In float32 for the sum over the suffixes, which is what this is on the way back.
    wide_GP1CKH = before_GPCKH.astype(widen(before_GPCKH.dtype))[:, :, None]
    shape = (*own_GPSTKH.shape[:3], *before_GPCKH.shape[2:])
    copied_GPSCKH = jnp.broadcast_to(wide_GP1CKH, shape).astype(own_GPSTKH.dtype)
    return jnp.concatenate([copied_GPSCKH, own_GPSTKH], axis=3)


def _padded(x: Array, axis: int) -> Array:
    """Zeros behind the positions, up to a multiple of the lanes."""
    missing = -x.shape[axis] % _LANES
    return jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])


def _heads_first(x: Array) -> Array:
    """From [G, P, S, T, heads..., H] to [B, heads, T, H], T padded."""
    x_BTNH = jax.lax.collapse(jax.lax.collapse(x, 4, x.ndim - 1), 0, 3)
    return _padded(x_BTNH.swapaxes(1, 2), 2)
