"""Where arrays live: the mesh, and two tables from axis letters to mesh axes.

The mesh has three axes. `data` carries whole grids, `fsdp` the prefixes inside
a grid and the weights, `tensor` the heads and the mlp. A laptop is the mesh
(1, 1, 1) and runs the same code. Axes are Explicit: shardings are part of an
array's type, and an operation whose result would be ambiguous is an error
instead of a guess.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rbs_jax.errors import UserError

WEIGHT = {
    "L": None,
    "V": None,  # vocabulary sizes rarely divide, and the table's rows are gathered before use
    "D": "fsdp",
    "K": "tensor",
    "Q": None,
    "H": None,
    "F": "tensor",
}
ACTIVATION = {
    "G": "data",
    "P": "fsdp",
    "S": None,
    "C": None,
    "T": None,
    "D": None,
    "V": None,
    "K": "tensor",
    "Q": None,
    "H": None,
    "F": "tensor",
}
PRODUCT = "product"
"""The name under which a policy of jax.checkpoint finds what `einsum` returns."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each mesh axis spans [devices]; their product must be the devices in use.

    What is None is found from the devices that are there: as many as can be in fsdp, the rest in
    data, one in tensor where that is enough. On the CPU of a single process None is 1.
    """

    data: int | None = None
    """Whole grids are spread over this axis, across slices too; it must divide the grids of a step.
    """
    fsdp: int | None = None
    """Prefixes of a grid and the weights' width; it must divide both."""
    tensor: int | None = None
    """Attention heads and the mlp; it must divide the kv heads and the mlp's width."""

    def __post_init__(self) -> None:
        if min(self.sizes) < 1:
            raise UserError(f"mesh {tuple(self.sizes)}: every axis needs at least 1 device")

    @property
    def sizes(self) -> "MeshSizes":
        """Devices along each axis, 1 where that is open."""
        return MeshSizes(*(1 if size is None else size for size in dataclasses.astuple(self)))

    def __str__(self) -> str:
        named = zip(("data", "fsdp", "tensor"), dataclasses.astuple(self), strict=True)
        return ", ".join(f"mesh.{axis} {'open' if n is None else n}" for axis, n in named)


class MeshSizes(NamedTuple):
    """Devices along each axis of a mesh."""

    data: int
    fsdp: int
    tensor: int


def make_mesh(config: MeshConfig) -> Mesh:
    """The mesh of the first data*fsdp*tensor devices.

    Raises:
      UserError: fewer devices are there, or some would stand idle on an accelerator or in a pod.
    """
    sizes = config.sizes
    needed, devices = math.prod(sizes), jax.devices()
    may_idle = devices[0].platform == "cpu" and jax.process_count() == 1
    if needed > len(devices) or (needed < len(devices) and not may_idle):
        raise UserError(
            f"mesh {tuple(sizes)} asks for {needed} devices, {len(devices)} are here: "
            "set --mesh.data, --mesh.fsdp and --mesh.tensor so that their product is that number"
        )
    return mesh_of(config, devices[:needed])


def mesh_of(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """These devices as a mesh, neighbours in the network near each other in it.

    Several slices are joined along `data`, the axis that sends least.

    Raises:
      UserError: `data` cannot be shared out among the slices.
    """
    sizes, slices = config.sizes, slices_of(devices)
    if sizes.data % slices:
        raise UserError(
            f"mesh.data {sizes.data} cannot be shared out among {slices} slices: make it a "
            f"multiple of {slices}"
        )
    if slices == 1:
        placed = create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        placed = create_hybrid_device_mesh(
            (sizes.data // slices, sizes.fsdp, sizes.tensor),
            (slices, 1, 1),
            devices,
            allow_split_physical_axes=True,
        )
    return Mesh(placed, ("data", "fsdp", "tensor"), axis_types=(AxisType.Explicit,) * 3)


def slices_of(devices: Sequence[jax.Device]) -> int:
    """How many slices of a pod the devices belong to."""
    return len({getattr(device, "slice_index", 0) for device in devices})


def mesh_for_scoring(trained_on: MeshConfig) -> Mesh:
    """The mesh a model was trained on where it fits the devices here, else all as `data`."""
    devices = len(jax.devices())
    if math.prod(trained_on.sizes) == devices:
        return make_mesh(trained_on)
    return make_mesh(MeshConfig(data=devices))


def _spec(table: dict[str, str | None], letters: str) -> PartitionSpec:
    unknown = [letter for letter in letters if letter not in table]
    if unknown:
        raise ValueError(f"no sharding is declared for axis {unknown[0]!r} of {letters!r}")
    axes = [table[letter] for letter in letters]
    used = [axis for axis in axes if axis is not None]
    if len(used) != len(set(used)):
        raise ValueError(f"{letters!r} would use a mesh axis twice: {axes}")
    return PartitionSpec(*axes)


def weight_spec(letters: str) -> PartitionSpec:
    """Where a weight with these axes is stored.

    Raises:
      ValueError: a letter is not in the table, or a mesh axis would be used twice.
    """
    return _spec(WEIGHT, letters)


def activation_spec(letters: str) -> PartitionSpec:
    """Where an activation with these axes lives; raises as `weight_spec` does."""
    return _spec(ACTIVATION, letters)


def activation_sharding(mesh: Mesh, letters: str) -> NamedSharding:
    """`activation_spec` on a concrete mesh, for placing batches on devices."""
    return NamedSharding(mesh, activation_spec(letters))


def gather(letters: str, weight: jax.Array) -> jax.Array:
    """A stored weight as a computation reads it: whole along fsdp, still split over tensor."""
    return jax.sharding.reshard(weight, unsharded(weight_spec(letters)))


def unsharded(spec: PartitionSpec) -> PartitionSpec:
    """Whole along fsdp, else as it is."""
    return PartitionSpec(*[None if axis == "fsdp" else axis for axis in spec])


def einsum(spec: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    """Contract an activation with a weight, as in `einsum("GPSTD,DF->GPSTF", x, w)`.

    The weight is cast to the activation's dtype, then gathered along fsdp (in
    that order, so that the network carries the smaller one). Sums are float32 at
    least, whatever the dtype; the result has the activation's, the weight's
    gradient its own. The result's sharding follows from its letters.

    Raises:
      ValueError: a letter has no declared sharding, or a mesh axis is used twice.
    """
    _operands(spec)
    return checkpoint_name(_contract(spec, x, weight), PRODUCT)


def _operands(spec: str) -> tuple[str, str, str]:
    inputs, output = spec.split("->")
    activation, weight = inputs.split(",")
    return activation, weight, output


def wide_einsum(spec: str, x: jax.Array, y: jax.Array, sharding: PartitionSpec) -> jax.Array:
    """Products in the operands' dtype, sums and result in float32 at least.

    Asking for the float32 result is what makes CPU run bfloat16 products at their own
    speed: with a bfloat16 result it first widens both operands.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.einsum(spec, x, y, preferred_element_type=wide, out_sharding=sharding)


# The gradients are written out because of the weight's. As JAX derives it, the product comes
# out transposed, and on CPU it first copies the larger activation, transposed; and it would
# be rounded to the compute dtype, the gathered weight kept until the backward pass.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _contract(spec: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    _, letters, output = _operands(spec)
    gathered = gather(letters, weight.astype(x.dtype))
    return wide_einsum(spec, x, gathered, activation_spec(output)).astype(x.dtype)


def _contract_forward(
    spec: str, x: jax.Array, weight: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _contract(spec, x, weight), (x, weight)


def _contract_backward(
    spec: str, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    xs, ws, ys = _operands(spec)
    gathered = gather(ws, weight.astype(x.dtype))
    dx = wide_einsum(f"{ys},{ws}->{xs}", dy, gathered, activation_spec(xs)).astype(x.dtype)
    dw = wide_einsum(f"{xs},{ys}->{ws}", x, dy, jax.typeof(weight).sharding.spec)
    return dx, dw.astype(weight.dtype)


_contract.defvjp(_contract_forward, _contract_backward)


def on_all(x: jax.Array) -> jax.Array:
    """`x` whole on every device, so that every process can read it."""
    return jax.sharding.reshard(x, PartitionSpec())


def spread(letters: str, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x` broadcast to `shape` and laid out as an activation with these axes."""
    spec = activation_spec(letters)
    if x.shape == shape:
        return jax.sharding.reshard(x, spec)
    return jnp.broadcast_to(x, shape, out_sharding=spec)


def per_device(
    function: Callable[..., jax.Array], inputs: Sequence[str], output: str, *given: Any
) -> jax.Array:
    """`function` of each device's own parts; what it computes asks no other device for anything.

    Args:
      function: of arrays with the axes `inputs`, to one with the axes `output`.
      inputs: the letters of each argument; of a tuple's arrays all the same.
      output: those of the result.
      given: the arguments, laid out anyhow; None is handed on.
    """

    def specs_of(letters: str, x: Any) -> Any:
        return jax.tree.map(lambda _: activation_spec(letters), x)

    specs = tuple(map(specs_of, inputs, given))
    # Kernels do not say along which mesh axes their results vary, so that is not checked.
    local = jax.shard_map(
        function, in_specs=specs, out_specs=activation_spec(output), check_vma=False
    )
    return local(*jax.tree.map(jax.sharding.reshard, given, specs))
