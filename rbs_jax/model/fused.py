"""Fused attention: kernels that never write the logits down, each device on its own share.

On NVIDIA cuDNN's, on TPU splash attention; both compute in bfloat16. Everything else goes to
the plain code of attention.py.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rbs_jax.sharding import per_device


@runtime_checkable
class Kernel(Protocol):
    """Attention of the texts of one device, differentiable."""

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
        ...


def implementation(
    q_GPSTKQH: Float[Array, "G P S T K Q H"],
    prefix: tuple[Float[Array, "G P C K H"], Float[Array, "G P C K H"]] | None,
    window: int | None,
    segments_GPST: Int[Array, "G P S T"] | None,
) -> Kernel | None:
    """The kernel for these texts on the devices of the ambient mesh; None for plain code.

    That is asked for by other dtypes; where a prefix meets segments, or a window smaller than
    both together; by packed blocks, odd lengths and heads over 128 on NVIDIA; and on a CPU.
    """
    *_, length, _, _, head_dim = q_GPSTKQH.shape
    context = 0 if prefix is None else prefix[0].shape[2]
    window = None if window is not None and window >= context + length else window
    if prefix is not None and not (window is None and segments_GPST is None):
        return None
    # The mesh's devices, not this host's: a program may be compiled for others.
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is None or q_GPSTKQH.dtype != jnp.bfloat16:
        return None
    if device.platform == "tpu":
        from rbs_jax.model.splash import Splash

        return Splash(window)
    if device.platform == "gpu" and segments_GPST is None:
        from rbs_jax.model import cudnn

        return cudnn.kernel(window) if cudnn.takes(head_dim, length, context) else None
    return None


def attend(
    kernel: Kernel,
    q_GPSTKQH: Float[Array, "G P S T K Q H"],
    k_GPSTKH: Float[Array, "G P S T K H"],
    v_GPSTKH: Float[Array, "G P S T K H"],
    prefix: tuple[Float[Array, "G P C K H"], Float[Array, "G P C K H"]] | None,
    prefix_lengths_GP: Int[Array, "G P"],
    segments_GPST: Int[Array, "G P S T"] | None = None,
) -> Float[Array, "G P S T K Q H"]:
    """What `attention.attend` says, by a kernel on the ambient mesh.

    Each device has its own grids, prefixes and kv heads, so that none asks another.
    """
    letters = "GPSTKQH", "GPSTKH", "GPSTKH", "GPCKH", "GP", "GPST"
    q_GPSTKQH *= q_GPSTKQH.shape[-1] ** -0.5
    before = None if prefix is None else tuple(prefix)
    given = q_GPSTKQH, k_GPSTKH, v_GPSTKH, before, prefix_lengths_GP, segments_GPST
    return per_device(kernel, letters, "GPSTKQH", *given)
