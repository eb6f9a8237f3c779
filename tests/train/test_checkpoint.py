import dataclasses
import shutil

import jax
import numpy as np
import pytest

from rbs_jax.data.tokens import train_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.feed import IN_BATCH, place
from rbs_jax.train.models import find_model, load_model
from rbs_jax.train.state import abstract, init_state
from rbs_jax.train.step import make_step
from tests.tiny import TINY, random_batch

OPTIMIZER = make_optimizer(OptimConfig(), steps=9, updates_per_step=1)


def init():
    return init_state(RewardModel(jax.random.key(0), TINY), OPTIMIZER)


def trained(mesh, steps, checkpoints=None):
    state = jax.jit(init)()
    step = make_step(OPTIMIZER, ObjectiveConfig(), OptimConfig())
    for number in range(steps):
        state, _ = step(state, place(IN_BATCH, random_batch(number, grids=2), mesh, 2))
        if checkpoints is not None:
            checkpoints.save(number + 1, state, {"next_step": number + 1}, Experiment(), {})
    return state


def test_restored_on_another_mesh_it_is_bitwise_the_same(tmp_path):
    first, second = make_mesh(MeshConfig(2, 2, 2)), make_mesh(MeshConfig(1, 4, 2))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        with jax.set_mesh(first):
            state = trained(first, 2)
            checkpoints.save(2, state, {"next_step": 2}, Experiment(seed=5), {})
            expected = jax.device_get(state)
        with jax.set_mesh(second):
            got = checkpoints.restore(2, abstract(second, jax.eval_shape(init)))
        data, config = checkpoints.notes(2)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), expected)
    query = got.model.trunk.blocks.attention.query[...]
    assert query.sharding.mesh.shape == second.shape
    assert data == {"next_step": 2}
    assert config["seed"] == 5


def test_a_save_under_way_is_untouched_by_later_steps(tmp_path, mesh):
    """The next step takes over the saved state's memory while it is written."""
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        trained(mesh, 4, checkpoints)
        for step in (1, 2, 3):
            got = checkpoints.restore(step, abstract(mesh, jax.eval_shape(init)))
            jax.tree.map(np.testing.assert_array_equal, got, trained(mesh, step))


def test_the_newest_are_kept_and_a_model_is_found_by_folder_or_step(tmp_path, mesh):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        trained(mesh, 4, checkpoints)
    assert find_model(str(tmp_path))[:2] == (str(tmp_path), 4)
    assert find_model(f"{tmp_path}@3")[:2] == (str(tmp_path), 3)
    with pytest.raises(UserError, match="here are 3, 4"):
        find_model(f"{tmp_path}@1")


def test_a_checkpoint_that_lacks_an_item_is_not_whole(tmp_path, mesh):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        trained(mesh, 2, checkpoints)
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "opt")
    assert find_model(str(tmp_path))[:2] == (str(tmp_path), 1)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.newest() == 1


def measured(folder, mesh, accuracies, keep):
    """Checkpoints of one state, each with a made-up accuracy on valid, or none."""
    with Checkpoints(folder, keep) as checkpoints:
        state = trained(mesh, 0)
        for step, accuracy in enumerate(accuracies, start=1):
            metrics = {} if accuracy is None else {"same_document": accuracy, "reward_mean": 0.5}
            checkpoints.save(step, state, {"next_step": step}, Experiment(), metrics)
        best = checkpoints.best()  # waits for the last save
        return checkpoints.steps(), best


def test_the_best_is_kept_beside_the_newest(tmp_path, mesh):
    kept = measured(tmp_path, mesh, [0.5, 0.7, None, 0.6, None], keep=2)
    assert kept == ([2, 4, 5], 2)
    assert find_model(f"{tmp_path}@best")[:2] == (str(tmp_path), 2)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.metrics(2) == {"same_document": 0.7, "reward_mean": 0.5}
        assert checkpoints.metrics(5) == {}


def test_where_none_was_measured_there_is_no_best(tmp_path, mesh):
    assert measured(tmp_path, mesh, [None, None, None], keep=1) == ([3], None)
    with pytest.raises(
        UserError, match=r"no checkpoint was measured; train with --train\.best-every"
    ):
        find_model(f"{tmp_path}@best")


def test_init_names_the_fresh_weights_of_the_run(tmp_path, mesh):
    model = dataclasses.replace(TINY, max_positions=128, vocab_size=300)
    experiment = Experiment(model=model, seed=3)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, trained(mesh, 1), {"next_step": 1}, experiment, {})
    train_tokens(["words"], 300).save(tmp_path)
    found = find_model(f"{tmp_path}@init")
    assert found == (str(tmp_path), 0, experiment)
    got = load_model(found, mesh).model
    fresh = jax.jit(lambda: RewardModel(jax.random.key(3), experiment.model))()
    jax.tree.map(np.testing.assert_array_equal, got, fresh)


def test_no_run_and_no_checkpoint_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="no model here"):
        find_model(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no whole checkpoint"):
        find_model(str(tmp_path))
