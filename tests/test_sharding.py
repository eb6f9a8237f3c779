import jax
import pytest

from rbs_jax.errors import UserError
from rbs_jax.sharding import MeshConfig, activation_spec, make_mesh, weight_spec


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


@pytest.mark.parametrize("config", [MeshConfig(data=16), MeshConfig(fsdp=0)])
def test_a_mesh_that_cannot_be_is_refused(config):
    with pytest.raises(UserError, match="mesh"):
        make_mesh(config)
