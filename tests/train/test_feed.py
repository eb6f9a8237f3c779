import jax
import numpy as np

from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import IN_BATCH, host_grids, place
from tests.tiny import random_batch


def test_a_placed_batch_holds_the_same_numbers_in_the_letters_layout():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    batch = random_batch(0, grids=4)
    placed = place(IN_BATCH, batch, mesh, 4)
    jax.tree.map(np.testing.assert_array_equal, placed, batch)
    assert tuple(placed.tokens.prefixes.sharding.spec) == ("data", "fsdp", None)
    assert tuple(placed.tokens.suffixes.sharding.spec) == ("data", None, None)


def test_one_host_reads_all_grids():
    assert host_grids(make_mesh(MeshConfig(4, 2, 1)), 8) == slice(0, 8)
