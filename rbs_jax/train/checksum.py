"""Checksums of arrays: what the files of a checkpoint cannot tell, a bit that has changed."""

from typing import Any

import jax
import jax.numpy as jnp


@jax.jit
def _sum_of_bits(tree: Any) -> jax.Array:
    def bits(x: jax.Array) -> jax.Array:
        kind = {2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
        return jax.lax.bitcast_convert_type(x, kind).sum(dtype=jnp.uint32)

    return sum(map(bits, jax.tree.leaves(tree)), jnp.uint32(0))


def checksum(tree: Any) -> int:
    """The sum of all arrays' bits, as integers modulo 2^32: the same on every mesh."""
    return int(_sum_of_bits(tree))


def compare(trees: dict[str, Any], saved: dict[str, int]) -> None:
    """Raises ValueError where what was read is not what was saved."""
    for item, tree in trees.items():
        if item in saved and checksum(tree) != saved[item]:
            raise ValueError(f"{item} has other values than were saved")
