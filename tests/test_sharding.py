import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.errors import UserError
from rbs_jax.sharding import (
    MeshConfig,
    activation_spec,
    einsum,
    make_mesh,
    mesh_for_scoring,
    weight_spec,
)


def test_a_letter_lives_where_the_tables_say():
    assert tuple(activation_spec("GPSTKQH")) == ("data", "fsdp", None, None, "tensor", None, None)
    assert tuple(weight_spec("LDKQH")) == (None, "fsdp", "tensor", None, None)


def test_an_unknown_letter_is_refused():
    with pytest.raises(ValueError, match="'Z'"):
        activation_spec("GZ")


def test_a_mesh_axis_used_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        weight_spec("KF")


def test_a_mesh_takes_the_devices_it_names():
    assert dict(make_mesh(MeshConfig(2, 2, 2)).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert make_mesh(MeshConfig()).devices.item() == jax.devices()[0]


def test_a_mesh_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="asks for 16 devices, 8 are here"):
        make_mesh(MeshConfig(data=16))
    with pytest.raises(UserError, match="at least 1"):
        MeshConfig(fsdp=0)


def test_a_model_is_scored_on_its_own_mesh_or_on_the_devices_there_are():
    assert dict(mesh_for_scoring(MeshConfig(2, 2, 2)).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert dict(mesh_for_scoring(MeshConfig(4, 8, 1)).shape) == {"data": 8, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("spec", ["GPSTD,DKQH->GPSTKQH", "GPSTKQH,KQHD->GPSTD", "GPSD,D->GPS"])
def test_einsum_and_its_gradients_are_those_of_numpy_and_jax(shape, spec):
    sizes = dict(zip("GPSTDKQH", (2, 4, 3, 5, 8, 2, 3, 4), strict=True))
    inputs, output = spec.split("->")
    chance = np.random.default_rng(0)
    x, w, dy = (
        chance.normal(size=[sizes[letter] for letter in letters]).astype(np.float32)
        for letters in (*inputs.split(","), output)
    )
    expected, gradient = jax.vjp(lambda x, w: jnp.einsum(spec, x, w), x, w)
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        placed = [
            jax.device_put(array, spec_of(letters))
            for array, letters, spec_of in zip(
                (x, w), inputs.split(","), (activation_spec, weight_spec), strict=True
            )
        ]
        y, ours = jax.vjp(lambda x, w: einsum(spec, x, w), *placed)
        grads = ours(jax.device_put(dy, activation_spec(output)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for got, true, array in zip(grads, gradient(dy), placed, strict=True):
        np.testing.assert_allclose(got, true, rtol=1e-4, atol=1e-5)
        assert got.sharding == array.sharding
