import json
from importlib.metadata import version

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rbs_jax.experiment import differences
from rbs_jax.plan.compile import REMATERIALISED
from tests.plan.golden import CONFIGS, FOLDER, made


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_s_shardings_and_collectives_are_golden_and_nothing_is_copied_whole(name, capfd):
    """After a change that is meant to move them: python -m tests.plan.golden NAME..."""
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    if expected["jax"] != version("jax"):
        pytest.skip(f"the golden files are of jax {expected['jax']}")
    found = json.loads(json.dumps(made(name)))
    changed = differences(expected, found)
    assert not changed, "\n".join([*changed, f"\npython -m tests.plan.golden {name}"])
    assert REMATERIALISED not in capfd.readouterr().err


def test_an_array_copied_whole_is_heard_of(capfd):
    """Else no test that there is none could fail."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)

    def like(shape, dtype, *axes):
        placed = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=placed)

    def gathers(table, ids):
        rows = NamedSharding(mesh, PartitionSpec("a", None, None))
        return jax.lax.with_sharding_constraint(table[ids], rows)

    table = like((512, 256), jnp.float32, None, ("a", "b"))  # split along its width
    jax.jit(gathers).lower(table, like((16, 32), jnp.int32, "a")).compile()
    assert REMATERIALISED in capfd.readouterr().err
