"""What a step updates: the model, the optimizer's state and the count of skipped updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from rbs_jax.model.kinds import Model


class TrainState(NamedTuple):
    """Model and moments are pytrees of float32 arrays, sharded by the weights' letters.

    `optim.first_moment` may say otherwise of the one moment.
    """

    model: Model
    opt_state: optax.OptState
    skipped: Int[Array, ""]
    """Updates left out since the start: their loss or gradient was not finite."""
    skipped_in_a_row: Int[Array, ""]
    """Those since the last update that was made."""


def init_state(model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; under jit, moments are born on their weights' devices."""
    none = jnp.zeros((), jnp.int32)
    return TrainState(model, optimizer.init(model), none, none)


def abstract(mesh: Mesh, shapes: Any) -> Any:
    """The result of `jax.eval_shape` with shardings on a concrete mesh, as orbax needs them."""

    def place(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        # A scalar that depends on no array, such as the optimizer's count, has no sharding yet.
        spec = PartitionSpec() if x.sharding is None else x.sharding.spec
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(place, shapes)
