"""Every test runs with 8 simulated CPU devices; a mesh takes as many as it needs."""

import jax
import pytest

from rbs_jax.sharding import MeshConfig, make_mesh

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def mesh():
    """One device through the same code as a pod."""
    one = make_mesh(MeshConfig())
    with jax.set_mesh(one):
        yield one
