import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import IN_BATCH, place
from rbs_jax.train.state import init_state
from rbs_jax.train.step import loss_and_metrics, make_step
from tests.tiny import TINY, random_batch

GOLDEN = Path(__file__).with_name("golden_first_steps.json")
MESHES = [(1, 1, 1), (8, 1, 1), (2, 2, 2), (1, 4, 2)]


def gradients(shape, batch, grids):
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        model = jax.jit(lambda: init_state(TINY, optax.identity(), 0).model)()
        function = jax.jit(jax.value_and_grad(loss_and_metrics, has_aux=True), static_argnums=2)
        (_, metrics), grads = function(
            model, place(IN_BATCH, batch, mesh, grids), ObjectiveConfig()
        )
        return jax.device_get(metrics), jax.device_get(grads)


@pytest.mark.slow
def test_every_mesh_gives_the_same_loss_metrics_and_gradients(capfd):
    batch = random_batch(0, grids=8, prefixes=8)
    metrics, grads = gradients(MESHES[0], batch, 8)
    for shape in MESHES[1:]:
        other_metrics, other_grads = gradients(shape, batch, 8)
        for name in metrics:
            np.testing.assert_allclose(other_metrics[name], metrics[name], rtol=1e-5, err_msg=name)
        compared = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-7)  # noqa: E731
        jax.tree.map(compared, other_grads, grads)
    # XLA warns where a sharding makes it copy whole arrays to every device.
    assert "rematerialization" not in capfd.readouterr().err


def test_gradients_of_grids_are_the_mean_of_single_grids():
    batch = random_batch(0, grids=2)
    _, both = gradients((1, 1, 1), batch, 2)
    one, two = (jax.tree.map(lambda x, g=g: x[g : g + 1], batch) for g in range(2))
    singles = [gradients((1, 1, 1), single, 1)[1] for single in (one, two)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *singles)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), both, mean)


def first_steps(shape):
    """Metrics of three updates on fixed batches."""
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(OptimConfig(learning_rate=1e-2, warmup_steps=1), steps=3)
        state = jax.jit(lambda: init_state(TINY, optimizer, 0))()
        step = make_step(optimizer, ObjectiveConfig())
        records = []
        for number in range(3):
            batch = place(IN_BATCH, random_batch(number, grids=8, prefixes=8), mesh, 8)
            state, metrics = step(state, batch)
            records.append({name: float(value) for name, value in metrics.items()})
        return records


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_first_steps_are_golden(shape):
    """After a change that is meant to move them: write `first_steps((1, 1, 1))` to the file."""
    expected, got = json.loads(GOLDEN.read_text()), first_steps(shape)
    for number, (old, new) in enumerate(zip(expected, got, strict=True)):
        for name in old:
            message = f"step {number} {name}: {old[name]} -> {new[name]}"
            assert new[name] == pytest.approx(old[name], rel=2e-4, abs=1e-6), message


def test_the_state_is_donated_and_a_new_one_takes_its_place(mesh):
    optimizer = make_optimizer(OptimConfig(), steps=3)
    state = jax.jit(lambda: init_state(TINY, optimizer, 0))()
    batch = place(IN_BATCH, random_batch(0), mesh, 1)
    after, _ = make_step(optimizer, ObjectiveConfig())(state, batch)
    assert jax.tree.leaves(state)[0].is_deleted()
    assert not jax.tree.leaves(after)[0].is_deleted()
