from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbs_jax.experiment import Experiment
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.feed import IN_BATCH, place
from rbs_jax.train.state import abstract, init_state
from rbs_jax.train.step import make_step
from tests.optimised import AS_USED
from tests.tiny import TINY, random_batch

SPREAD = (2, 2, 2)


class Setting(NamedTuple):
    """What a few steps need, on one mesh."""

    mesh: Any
    init: Any
    step: Any

    def state(self, steps):
        """The state after some steps."""
        state = self.init()
        for number in range(steps):
            state, _ = self.step(state, self.batch(number))
        return state

    def batch(self, number):
        return place(IN_BATCH, random_batch(number, grids=2), self.mesh, 2)


@cache
def setting(dtype, shape=(1, 1, 1)):
    """Made once for all tests, since each compiles a step."""
    optim = OptimConfig(first_moment=dtype, learning_rate=1e-2, warmup_steps=0)
    optimizer = make_optimizer(optim, steps=9, updates_per_step=1)

    @jax.jit
    def init():
        return init_state(RewardModel(jax.random.key(0), TINY), optimizer)

    step = make_step(optimizer, ObjectiveConfig(), optim)
    return Setting(make_mesh(MeshConfig(*shape)), init, step)


def moments(state):
    return optax.tree.get(state.opt_state, "mu"), optax.tree.get(state.opt_state, "nu")


def test_only_the_first_moment_is_rounded_and_moves_weights_almost_the_same(mesh):
    states = {dtype: setting(dtype).state(steps=4) for dtype in ("float32", "bfloat16")}
    for dtype, state in states.items():
        first, second = moments(state)
        assert {x.dtype for x in jax.tree.leaves(first)} == {jnp.dtype(dtype)}
        assert {x.dtype for x in jax.tree.leaves([second, state.model])} == {jnp.dtype("float32")}
    models = [state.model for state in states.values()]
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *models)
    assert 0 < max(jax.tree.leaves(apart)) < 1e-3  # of 4 updates of 1e-2


@pytest.mark.parametrize("steps", [0, 1])
def test_moments_live_where_their_weights_do(steps):
    spread = setting("bfloat16", SPREAD)
    with jax.set_mesh(spread.mesh):
        state = spread.state(steps)
    for moment in moments(state):
        same = jax.tree.map(lambda m, w: m.sharding == w.sharding, moment, state.model)
        assert all(jax.tree.leaves(same))
        up = moment.trunk.blocks.mlp.up[...]
        assert up.addressable_shards[0].data.shape == (2, 16 // 2, 24 // 2)


def test_a_rounded_first_moment_is_restored_bitwise_on_another_mesh(tmp_path):
    spread, other = setting("bfloat16", SPREAD), make_mesh(MeshConfig(1, 4, 2))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        with jax.set_mesh(spread.mesh):
            state = spread.state(steps=1)
            checkpoints.save(1, state, {"next_step": 1}, Experiment(), {})
            expected = jax.device_get(state)
        with jax.set_mesh(other):
            got = checkpoints.restore(1, abstract(other, jax.eval_shape(spread.init)))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), expected)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.dtype == b.dtype, got, expected)))


@pytest.mark.parametrize("shape", [(1, 1, 1), SPREAD])
def test_the_new_state_takes_over_every_byte_of_the_old_one(shape):
    made = setting("bfloat16", shape)
    with jax.set_mesh(made.mesh):
        state = made.state(steps=0)
        memory = made.step.lower(state, made.batch(0)).compile(AS_USED).memory_analysis()
    on_a_device = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    assert memory.alias_size_in_bytes == on_a_device
