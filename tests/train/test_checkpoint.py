import dataclasses
import shutil

import jax
import jax.numpy as jnp
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
from rbs_jax.train.checksum import checksum
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
    assert data["next_step"] == 2
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


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A run of 2 steps, both saved, and its state after each."""
    folder, states = tmp_path_factory.mktemp("run"), {}
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh), Checkpoints(folder, keep=9) as checkpoints:
        trained(mesh, 2, checkpoints)
        checkpoints.wait()
        for step in (1, 2):
            states[step] = jax.device_get(checkpoints.restore(step, jax.jit(init)()))
    return folder, states


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    garbled = bytearray(path.read_bytes())
    garbled[len(garbled) // 2] ^= 0xFF
    path.write_bytes(bytes(garbled))


def newest_of(folder):
    with Checkpoints(folder, keep=9) as checkpoints:
        step, state = checkpoints.newest_readable(jax.jit(init)(), lambda *_: None)
        return step, jax.device_get(state), checkpoints.steps()


@pytest.mark.parametrize(
    "damage", [cut, flip, lambda path: path.unlink()], ids=["cut", "bit", "gone"]
)
def test_whatever_file_is_damaged_the_state_is_a_saved_one(
    two_checkpoints, tmp_path, mesh, damage, capsys
):
    """Some files repeat what others hold; without any other the checkpoint before is used."""
    folder, states = two_checkpoints
    files = sorted(path.relative_to(folder) for path in (folder / "checkpoints/2").rglob("*"))
    used = []
    for file in files:
        if not (folder / file).is_file():
            continue
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "run")
        damage(tmp_path / "run" / file)
        step, state, left = newest_of(tmp_path / "run")
        jax.tree.map(np.testing.assert_array_equal, state, states[step])
        said = capsys.readouterr().err
        if step == 1 and "/2/params/" in f"/{file}":
            assert f"{tmp_path / 'run/checkpoints/2'}: this checkpoint cannot be read" in said
            assert left == [1]
            assert (tmp_path / "run/broken_checkpoints/2").is_dir()
        used.append(step)
    assert {1, 2} == set(used)


def test_where_no_checkpoint_can_be_read_all_stay(two_checkpoints, tmp_path, mesh):
    folder, _ = two_checkpoints
    shutil.copytree(folder, tmp_path / "run")
    for step in (1, 2):
        cut(tmp_path / f"run/checkpoints/{step}/params/manifest.ocdbt")
    with pytest.raises(UserError, match=r"none of the checkpoints 1, 2 can be read: .*start anew"):
        newest_of(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["1", "2"]


def test_a_want_of_memory_is_not_taken_for_damage(two_checkpoints, mesh, monkeypatch):
    def refuse(*_):
        raise MemoryError

    with Checkpoints(two_checkpoints[0], keep=9) as checkpoints:
        monkeypatch.setattr(checkpoints, "_arrays", refuse)
        with pytest.raises(MemoryError):
            checkpoints.newest_readable(jax.jit(init)(), lambda *_: None)
        assert checkpoints.steps() == [1, 2]


def test_a_damaged_model_is_refused_with_the_names_of_others(two_checkpoints, tmp_path, mesh):
    shutil.copytree(two_checkpoints[0], tmp_path / "run")
    for path in (tmp_path / "run/checkpoints/2/params/ocdbt.process_0/d").iterdir():
        flip(path)
    with Checkpoints(tmp_path / "run", keep=9) as checkpoints:
        like = jax.jit(init)().model
        checkpoints.restore_model(1, like)
        with pytest.raises(UserError, match=r"checkpoints/2: .* cannot be read .*others are 1, "):
            checkpoints.restore_model(2, like)
        cut(tmp_path / "run/checkpoints/1/config/metadata")
        with pytest.raises(UserError, match=r"checkpoints/1: this checkpoint cannot be read"):
            checkpoints.notes(1)


def test_the_checksum_is_that_of_the_bits_on_any_mesh():
    one, eight = make_mesh(MeshConfig()), make_mesh(MeshConfig(2, 2, 2))
    sums = []
    for mesh in (one, eight):
        with jax.set_mesh(mesh):
            sums.append(checksum(jax.jit(init)()))
    assert sums[0] == sums[1]
    halves = np.array([1.5, -2.0], "bfloat16"), np.array([3, -1], np.int32)
    expected = sum(int(x.view(f"u{x.itemsize}").astype(np.uint64).sum()) for x in halves)
    assert checksum(jax.tree.map(jnp.asarray, halves)) == expected % 2**32
