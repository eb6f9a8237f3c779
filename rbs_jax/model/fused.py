"""Fused attention: kernels that never write the logits down, each device on its own share."""

from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int

from rbs_jax.sharding import activation_spec


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
    letters = ("GPSTKQH", "GPSTKH", "GPSTKH", ("GPCKH", "GPCKH"), "GP", "GPST")
    before = None if prefix is None else tuple(prefix)
    q_GPSTKQH *= q_GPSTKQH.shape[-1] ** -0.5
    given = (q_GPSTKQH, k_GPSTKH, v_GPSTKH, before, prefix_lengths_GP, segments_GPST)
    specs = tuple(
        None if x is None else jax.tree.map(activation_spec, row)
        for x, row in zip(given, letters, strict=True)
    )
    # Kernels do not say along which mesh axes their results vary, so that is not checked.
    per_device = jax.shard_map(
        kernel, in_specs=specs, out_specs=activation_spec("GPSTKQH"), check_vma=False
    )
    return per_device(*jax.tree.map(jax.sharding.reshard, given, specs))
