"""The mesh of the devices that are here, for what a config leaves open of it."""

import dataclasses
from collections.abc import Iterator

import jax

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.sharding import MeshConfig, slices_of


def with_mesh(experiment: Experiment) -> Experiment:
    """The experiment with every axis of its mesh given.

    Of the meshes that spread it over all devices, data across slices, the one with the fewest
    devices outside `fsdp`: that axis alone splits both the weights and a grid's work. Simulated
    devices of one process, as tests have them, are used only as far as the config asks.

    Raises:
      UserError: no mesh of these devices divides the run.
    """
    devices = jax.devices()
    if devices[0].platform == "cpu" and jax.process_count() == 1:
        return dataclasses.replace(experiment, mesh=MeshConfig(*experiment.mesh.sizes))
    return spread_over(experiment, len(devices), slices_of(devices))


def spread_over(experiment: Experiment, devices: int, slices: int) -> Experiment:
    """The experiment on a mesh of so many devices in so many slices; see `with_mesh`.

    Raises:
      UserError: there is none.
    """
    asked, found = experiment.mesh, []
    if None not in dataclasses.astuple(asked):
        return experiment  # whether it fits the devices is for `make_mesh` to say
    for sizes in factors(devices):
        mesh = MeshConfig(*sizes)
        if mesh.sizes.data % slices or not _agrees(asked, mesh):
            continue
        try:
            found.append(dataclasses.replace(experiment, mesh=mesh))
        except UserError:  # it does not divide the run
            continue
    if not found:
        grid = experiment.grid
        raise UserError(
            f"no mesh of {devices} devices in {slices} slices divides this run as "
            f"{asked}: mesh.data has to divide grid.grids_per_step {grid.grids_per_step}, "
            f"mesh.fsdp the prefixes of an update {experiment.prefixes_per_update}; "
            f"make one of them a multiple of {devices}, or use fewer devices"
        )
    return min(found, key=_outside_fsdp)


def _outside_fsdp(experiment: Experiment) -> tuple[int, int]:
    data, _, tensor = experiment.mesh.sizes
    return data * tensor, tensor


def _agrees(asked: MeshConfig, mesh: MeshConfig) -> bool:
    given = zip(dataclasses.astuple(asked), mesh.sizes, strict=True)
    return all(own is None or own == size for own, size in given)


def factors(devices: int) -> Iterator[tuple[int, int, int]]:
    """Every (data, fsdp, tensor) whose product is the number of devices."""
    divisors = [number for number in range(1, devices + 1) if devices % number == 0]
    for data in divisors:
        for tensor in divisors:
            if devices % (data * tensor) == 0:
                yield data, devices // (data * tensor), tensor
