import dataclasses
import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbs_jax.model import language
from rbs_jax.model.kinds import fresh
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig, grid_metrics, objective
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.shapes import GridBatch, TokenBlocks
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import BLOCKS, IN_BATCH, place
from rbs_jax.train.state import init_state
from rbs_jax.train.step import make_step
from rbs_jax.train.tile import TileConfig, block_gradients, grid_gradients, is_target
from tests.tiny import TINY, random_batch

GOLDEN = Path(__file__).with_name("golden_first_steps.json")
# As in the step; one operation after another they are slow.
compiled_objective, compiled_metrics = jax.jit(objective, static_argnums=3), jax.jit(grid_metrics)
MESHES = [(1, 1, 1), (8, 1, 1), (2, 2, 2), (1, 4, 2)]


def free(model):
    """Nothing is frozen."""
    return model


def gradients(shape, batch, grids):
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        model = fresh(RewardModel, 0, TINY)
        batch = place(IN_BATCH, batch, mesh, grids)
        function = jax.jit(grid_gradients, static_argnums=(2, 3, 4))
        r_GPS, grads = function(model, batch, ObjectiveConfig(), TileConfig(), free)
        loss, _ = compiled_objective(r_GPS, batch.positive, batch.negatives, ObjectiveConfig())
        metrics = compiled_metrics(r_GPS, batch.positive, batch.negatives)
        return jax.device_get({"loss": loss} | metrics), jax.device_get(grads)


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


UNTIED = dataclasses.replace(TINY, tied_embeddings=False)


def random_blocks(seed, grids=1, prefixes=3, length=11, vocab=64, end_every=4):
    """Blocks of random ids, whose documents have `end_every` ids on average."""
    chance = np.random.default_rng(seed)
    shape = (grids, prefixes, length)
    ends = chance.random(shape) < 1 / end_every
    segments = np.cumsum(ends, axis=-1, dtype=np.int32)
    return TokenBlocks(chance.integers(vocab, size=shape).astype(np.int32), segments)


def language_gradients(shape, blocks):
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        model = fresh(LanguageModel, 0, UNTIED)
        blocks = place(BLOCKS, blocks, mesh, len(blocks.tokens))
        function = jax.jit(block_gradients, static_argnums=(2, 3))
        loss, grads = jax.device_get(function(model, blocks, TileConfig(), free))
        return (loss, int(is_target(blocks).sum())), grads


@pytest.mark.slow
def test_every_mesh_gives_the_same_language_loss_and_gradients(capfd, monkeypatch):
    monkeypatch.setattr(language, "LOGITS_BYTES", 3 * 64 * 64 * 4)  # 3 positions at a time
    blocks = random_blocks(0, grids=8, prefixes=8)
    (loss, targets), grads = language_gradients((1, 1, 1), blocks)
    assert targets == (np.diff(blocks.segments) == 0).sum()
    for shape in ((2, 2, 2), (8, 1, 1)):
        (other_loss, other_targets), other_grads = language_gradients(shape, blocks)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other_targets == targets
        compared = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-7)  # noqa: E731
        jax.tree.map(compared, other_grads, grads)
    assert "rematerialization" not in capfd.readouterr().err


def test_placed_blocks_are_spread_over_grids_and_prefixes():
    mesh, blocks = make_mesh(MeshConfig(2, 2, 2)), random_blocks(0, grids=2, prefixes=4)
    placed = place(BLOCKS, blocks, mesh, 2)
    jax.tree.map(np.testing.assert_array_equal, placed, blocks)
    assert {tuple(x.sharding.spec) for x in placed} == {("data", "fsdp", None)}


def test_a_token_is_a_target_where_its_document_stands_before_it():
    segments = np.array([[[0, 0, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1]]], np.int32)
    blocks = TokenBlocks(jnp.zeros_like(segments), jnp.asarray(segments))
    assert is_target(blocks).tolist() == [
        [[True, False, False, True, True], [True, True, True, True, False]]
    ]


def test_the_loss_and_gradient_of_blocks_are_means_over_their_targets():
    """A grid of few targets counts for less than one of many."""
    few, many = random_blocks(0, end_every=1.5), random_blocks(1, end_every=9)
    both = TokenBlocks(*map(np.concatenate, zip(few, many, strict=True)))
    (loss, targets), grads = language_gradients((1, 1, 1), both)
    ((loss0, n0), grads0), ((loss1, n1), grads1) = (
        language_gradients((1, 1, 1), blocks) for blocks in (few, many)
    )
    assert 0 < n0 < n1 / 1.5
    assert targets == n0 + n1
    assert loss == pytest.approx((n0 * loss0 + n1 * loss1) / (n0 + n1), rel=1e-5)
    mean = jax.tree.map(lambda a, b: (n0 * a + n1 * b) / (n0 + n1), grads0, grads1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), grads, mean)


WHOLE = TileConfig()


@cache
def programs(optim, of_blocks, tile):
    """What makes the first state, and the step: traced and compiled once for many tests."""
    kind, config = (LanguageModel, UNTIED) if of_blocks else (RewardModel, TINY)
    objective = ObjectiveConfig("causal_lm") if of_blocks else ObjectiveConfig()
    assert optim.schedule == "constant", "the number of steps would matter"
    optimizer = make_optimizer(optim, steps=1, updates_per_step=1)
    init = jax.jit(lambda: init_state(kind(jax.random.key(0), config), optimizer))
    return init, make_step(optimizer, objective, optim, tile)


def steps(optim, batches, shape=(1, 1, 1), state=None, tile=WHOLE):
    """The state after a step on each batch, from fresh weights unless told, and each's metrics."""
    mesh = make_mesh(MeshConfig(*shape))
    of_blocks = isinstance(batches[0], TokenBlocks)
    letters = BLOCKS if of_blocks else IN_BATCH
    init, step = programs(optim, of_blocks, tile)
    with jax.set_mesh(mesh):
        state, told = init() if state is None else state, []
        for batch in batches:
            state, metrics = step(state, place(letters, batch, mesh, len(batch[1])))
            told.append(jax.device_get(metrics))
        return jax.device_get(state), told


def rows_of(batch, rows):
    """Some prefixes of every grid, with all the grid's suffixes."""
    tokens = batch.tokens._replace(
        prefixes=batch.tokens.prefixes[:, rows],
        prefix_lengths=batch.tokens.prefix_lengths[:, rows],
    )
    return GridBatch(tokens, batch.positive[:, rows], batch.negatives[:, rows])


@pytest.mark.parametrize(("rows", "shape"), [(1, (1, 1, 1)), (2, (2, 2, 1))])
def test_several_updates_of_a_step_are_single_steps_one_after_another(rows, shape):
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0)
    batch = random_batch(0, grids=2, prefixes=4)
    parts = [rows_of(batch, slice(at, at + rows)) for at in range(0, 4, rows)]
    expected, one_by_one = steps(optim, parts)
    got, (metrics,) = steps(dataclasses.replace(optim, prefixes_per_update=rows), [batch], shape)
    compared = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # noqa: E731
    jax.tree.map(compared, got.model, expected.model)
    at_once, _ = steps(optim, [batch])
    difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), got.model, at_once.model)
    assert max(jax.tree.leaves(difference)) > 1e-3, "one update a step would have been the same"
    assert metrics["loss"] == pytest.approx(np.mean([m["loss"] for m in one_by_one]), rel=1e-4)


POISON = 63
"""An id whose embedding is no number."""


def poisoned_state(optim, batch=None):
    def poison(path, x):
        if jax.tree_util.keystr(path).startswith(".trunk.embedding"):
            return np.where(np.arange(len(x))[:, None] == POISON, np.nan, x)
        return x

    state, _ = steps(optim, [batch or random_batch(0, vocab=POISON)])
    return state._replace(model=jax.tree_util.tree_map_with_path(poison, state.model))


def test_a_step_on_blocks_tells_their_loss_and_targets_and_lowers_it():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0)
    blocks = random_blocks(0)
    _, (first, *_, last) = steps(optim, [blocks] * 12)
    assert set(first) == {"loss", "targets", "grad_norm", "skipped_updates", "skipped_in_a_row"}
    (loss, targets), grads = language_gradients((1, 1, 1), blocks)
    assert first["loss"] == pytest.approx(loss, rel=1e-5)
    assert loss == pytest.approx(np.log(64), rel=0.05)
    assert first["targets"] == targets
    assert first["grad_norm"] == pytest.approx(float(optax.global_norm(grads)), rel=1e-4)
    assert last["loss"] < 0.9 * first["loss"]
    assert last["skipped_updates"] == 0


def test_blocks_without_a_target_change_nothing_and_are_no_fault():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.5)
    blocks = random_blocks(0)
    none = blocks._replace(segments=np.broadcast_to(np.arange(11, dtype=np.int32), (1, 3, 11)))
    once, _ = steps(optim, [blocks])
    after, (_, metrics) = steps(optim, [blocks, none])
    jax.tree.map(np.testing.assert_array_equal, after, once)
    assert (metrics["loss"], metrics["targets"], metrics["skipped_updates"]) == (0, 0, 0)


def test_blocks_whose_gradient_is_not_finite_change_nothing_and_are_counted():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0)
    good, bad = (random_blocks(seed, vocab=POISON, end_every=99) for seed in (0, 1))
    bad.tokens[0, 1, 2] = POISON
    before = poisoned_state(optim, good)
    after, (_, metrics) = steps(optim, [bad, bad], state=before)
    jax.tree.map(np.testing.assert_array_equal, after[:2], before[:2])
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (2, 2)
    moved, (_, metrics) = steps(optim, [bad, good], state=before)
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (1, 0)
    assert (moved.model.head.weight[...] != before.model.head.weight[...]).any()
    assert np.isfinite(metrics["loss"])


def poisoned_batch(row):
    """A batch in which only one prefix holds the poison."""
    batch = random_batch(1, prefixes=4, vocab=POISON, full=True)
    batch.tokens.prefixes[0, row] = POISON
    return batch


def test_an_update_that_is_not_finite_changes_nothing_and_is_counted():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0)
    good, bad = random_batch(2, vocab=POISON), poisoned_batch(1)
    before = poisoned_state(optim)
    after, (_, metrics) = steps(optim, [bad, bad], state=before)
    jax.tree.map(np.testing.assert_array_equal, after[:2], before[:2])
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (2, 2)
    assert not np.isfinite(metrics["loss"])
    moved, (_, metrics) = steps(optim, [bad, good], state=before)
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (1, 0)
    assert (moved.model.head[...] != before.model.head[...]).any()
    assert np.isfinite(metrics["loss"])


def test_a_gradient_too_large_for_float32_is_skipped_where_the_loss_is_not():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0)
    scales = {".trunk.final_norm": 1e10, ".head": 1e9}

    def enlarge(path, x):
        return x * np.float32(scales.get(jax.tree_util.keystr(path).removesuffix(".value"), 1))

    before, _ = steps(optim, [random_batch(0)])
    model = jax.tree_util.tree_map_with_path(enlarge, before.model)
    before = before._replace(model=model)
    after, (metrics,) = steps(optim, [random_batch(0)], state=before)
    assert np.isfinite(metrics["loss"])
    assert np.isinf(metrics["grad_norm"])
    assert metrics["skipped_updates"] == 1
    jax.tree.map(np.testing.assert_array_equal, after[:2], before[:2])


def test_an_update_without_negatives_changes_nothing_and_is_no_fault():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.5)
    batch = random_batch(0)
    none = batch._replace(negatives=np.zeros_like(batch.negatives))
    once, _ = steps(optim, [batch])
    after, (_, metrics) = steps(optim, [batch, none])
    jax.tree.map(np.testing.assert_array_equal, after, once)
    assert np.isnan(metrics["pair_accuracy"])


def test_of_several_updates_only_the_bad_one_is_skipped():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0, prefixes_per_update=1)
    before, bad = poisoned_state(optim), poisoned_batch(1)
    after, (metrics,) = steps(optim, [bad], state=before)
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (1, 0)
    parts = [rows_of(bad, slice(row, row + 1)) for row in (0, 2, 3)]
    expected, _ = steps(optim, parts, state=before)
    compared = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # noqa: E731
    jax.tree.map(compared, after.model, expected.model)


@pytest.mark.parametrize(
    ("freeze", "held"),
    [("nothing", ()), ("embeddings", (".trunk.embedding",)), ("trunk", (".trunk",))],
)
def test_what_is_frozen_stays_and_has_no_moments(freeze, held):
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.5, freeze=freeze)
    before = init_of(TINY)
    after, (metrics,) = steps(optim, [random_batch(0)])
    paths = jax.tree_util.tree_leaves_with_path(before)
    for (path, old), new in zip(paths, jax.tree.leaves(after.model), strict=True):
        stays = jax.tree_util.keystr(path).startswith(held) if held else False
        assert (np.asarray(old) == new).all() == stays, path
    moving = sum(
        x.size for path, x in paths if not held or not jax.tree_util.keystr(path).startswith(held)
    )
    moments = sum(x.size for x in jax.tree.leaves(after.opt_state) if x.ndim)
    assert moments == 2 * moving
    assert metrics["grad_norm"] > 0


def init_of(config):
    with jax.set_mesh(make_mesh(MeshConfig())):
        return jax.device_get(fresh(RewardModel, 0, config))


def first_steps(shape):
    """Metrics of three updates on fixed batches."""
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(
            OptimConfig(learning_rate=1e-2, warmup_steps=1), steps=3, updates_per_step=1
        )
        state = jax.jit(lambda: init_state(RewardModel(jax.random.key(0), TINY), optimizer))()
        step = make_step(optimizer, ObjectiveConfig(), OptimConfig())
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
    optimizer = make_optimizer(OptimConfig(), steps=3, updates_per_step=1)
    state = jax.jit(lambda: init_state(RewardModel(jax.random.key(0), TINY), optimizer))()
    batch = place(IN_BATCH, random_batch(0), mesh, 1)
    after, _ = make_step(optimizer, ObjectiveConfig(), OptimConfig())(state, batch)
    assert jax.tree.leaves(state)[0].is_deleted()
    assert not jax.tree.leaves(after)[0].is_deleted()
