import dataclasses

import pytest

from rbs_jax.errors import UserError
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.topology import factors, spread_over, with_mesh


def on(experiment, devices, slices=1, mesh=None):
    asks = dataclasses.replace(experiment, mesh=mesh or MeshConfig())
    return tuple(spread_over(asks, devices, slices).mesh.sizes)


def test_fsdp_takes_what_it_can_and_data_the_rest(experiment):
    assert on(experiment, 4) == (1, 4, 1)
    assert on(experiment, 8) == (2, 4, 1)


def test_slices_are_joined_by_data_alone(experiment):
    assert on(experiment, 4, slices=2) == (2, 2, 1)
    assert on(experiment, 8, slices=2) == (2, 4, 1)


def test_tensor_is_used_where_nothing_else_divides(experiment):
    assert on(experiment, 16) == (2, 4, 2)


def test_what_the_config_gives_stays(experiment):
    assert on(experiment, 8, mesh=MeshConfig(tensor=2)) == (1, 4, 2)
    assert on(experiment, 8, mesh=MeshConfig(fsdp=2, tensor=2)) == (2, 2, 2)
    assert on(experiment, 8, mesh=MeshConfig(1, 1, 1)) == (1, 1, 1)


def test_devices_that_do_not_divide_the_run_are_refused_with_what_has_to_divide(experiment):
    with pytest.raises(UserError, match=r"no mesh of 3 devices in 1 slices .*grids_per_step 2"):
        on(experiment, 3)
    with pytest.raises(UserError, match=r"mesh\.data open, mesh\.fsdp 4, mesh\.tensor open"):
        on(experiment, 8, slices=4, mesh=MeshConfig(fsdp=4))


def test_simulated_devices_of_one_process_are_used_only_where_asked_for(experiment):
    assert with_mesh(experiment).mesh == MeshConfig(1, 1, 1)
    two = dataclasses.replace(experiment, mesh=MeshConfig(data=2))
    assert with_mesh(two).mesh == MeshConfig(2, 1, 1)


def test_factors_multiply_to_the_devices():
    assert sorted(factors(4)) == [(1, 1, 4), (1, 2, 2), (1, 4, 1), (2, 1, 2), (2, 2, 1), (4, 1, 1)]
