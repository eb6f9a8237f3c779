import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.errors import UserError
from rbs_jax.model.kinds import fresh, shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel, scores
from rbs_jax.objective import ObjectiveConfig, objective
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import BLOCKS, IN_BATCH, place
from rbs_jax.train.state import init_state
from rbs_jax.train.step import make_step
from rbs_jax.train.tile import TileConfig, block_gradients, grid_gradients
from tests.model.noise import noisy
from tests.optimised import AS_USED
from tests.tiny import TINY, random_batch
from tests.train.test_step import (
    POISON,
    UNTIED,
    free,
    language_gradients,
    poisoned_state,
    random_blocks,
    steps,
)

LOSSES = {
    "bradley_terry": ObjectiveConfig(margin=0.1, label_smoothing=0.1, centering=0.2),
    "sum_square": ObjectiveConfig(centering=0.2, centering_form="sum_square"),
    "infonce": ObjectiveConfig("infonce", margin=0.1, label_smoothing=0.1, centering=0.2),
}


def gradients(batch, config, tile, shape=(1, 1, 1), model_config=TINY, frozen=free):
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        model = noisy(RewardModel, model_config)
        placed = place(IN_BATCH, batch, mesh, len(batch.positive))
        function = jax.jit(grid_gradients, static_argnums=(2, 3, 4))
        return jax.device_get(function(model, placed, config, tile, frozen))


def assert_near(got, expected, rtol):
    """Every array within `rtol` of its largest value."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bradley_terry", "infonce"])
def test_tiles_of_any_size_give_the_whole_grids_rewards_and_gradients(name):
    batch = random_batch(0, grids=2, prefixes=8)
    config = dataclasses.replace(TINY, num_layers=3)
    whole = gradients(batch, LOSSES[name], TileConfig(), model_config=config)
    for tile in (TileConfig(2), TileConfig(suffixes=1)):
        assert_near(gradients(batch, LOSSES[name], tile, model_config=config), whole, 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bradley_terry", "infonce"])
def test_tiles_on_a_mesh_give_the_same(name, capfd):
    batch = random_batch(1, grids=2, prefixes=8)
    whole = gradients(batch, LOSSES[name], TileConfig())
    for tile in (TileConfig(2, 4),):
        assert_near(gradients(batch, LOSSES[name], tile, (2, 2, 2)), whole, 5e-6)
    assert "rematerialization" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_at_128_prefixes_tiles_equal_every_pair_alone_in_float64_to_rounding(name):
    """Of 128 x 128 pairs, each concatenated and scored alone, in float64."""
    batch = random_batch(2, prefixes=128, context=5, length=3)
    tiles = TileConfig(8), TileConfig(16, 32)
    single = [gradients(batch, LOSSES[name], tile) for tile in tiles]
    with jax.enable_x64(True):
        config = dataclasses.replace(TINY, dtype="float64")
        expected = _every_pair_alone(batch, LOSSES[name], config)
        double = _in_float64(batch, LOSSES[name], tiles[1], config)
    assert_near(double, expected, 1e-12)
    for got in single:
        assert_near(got, expected, 1e-5)


def _wide(config):
    return jax.tree.map(lambda x: x.astype(jnp.float64), noisy(RewardModel, config))


def _in_float64(batch, config, tile, model_config):
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        placed = place(IN_BATCH, batch, mesh, 1)
        function = jax.jit(grid_gradients, static_argnums=(2, 3, 4))
        return jax.device_get(function(_wide(model_config), placed, config, tile, free))


def _every_pair_alone(batch, config, model_config):
    prefixes, before, suffixes, after = (x[0] for x in batch.tokens)
    rows = np.zeros((128, 128, prefixes.shape[-1] + suffixes.shape[-1]), np.int32)
    for p in range(128):
        for s in range(128):
            ids = [*prefixes[p][: before[p]], *suffixes[s][: after[s]]]
            rows[p, s, : len(ids)] = ids
    rows, lengths = jnp.asarray(rows)[None], jnp.asarray(before[:, None] + after)[None]
    positive, negatives = jnp.asarray(batch.positive), jnp.asarray(batch.negatives)

    def loss_of(model):
        r_GPS = scores(model, rows, lengths)
        return objective(r_GPS, positive, negatives, config)[0], r_GPS

    with jax.set_mesh(make_mesh(MeshConfig())):
        grads, r_GPS = jax.jit(jax.grad(loss_of, has_aux=True))(_wide(model_config))
        return jax.device_get((r_GPS, grads))


def test_what_is_frozen_has_no_gradient_in_any_tile():
    def hold(model):
        return jax.tree.map(jax.lax.stop_gradient, model)

    for tile in (TileConfig(2), TileConfig(2, 2)):
        _, grads = gradients(random_batch(0), LOSSES["bradley_terry"], tile, frozen=hold)
        assert not any(x.any() for x in jax.tree.leaves(grads))


def test_blocks_in_tiles_give_the_same_loss_and_gradients():
    blocks = random_blocks(0, grids=2, prefixes=4)
    (loss, _), grads = language_gradients((1, 1, 1), blocks)
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        function = jax.jit(block_gradients, static_argnums=(2, 3))
        placed = place(BLOCKS, blocks, mesh, 2)
        got = function(fresh(LanguageModel, 0, UNTIED), placed, TileConfig(2), free)
    assert got[0] == pytest.approx(loss, rel=1e-6)
    assert_near(jax.device_get(got[1]), grads, 1e-5)


def test_a_step_in_tiles_is_the_step():
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0, prefixes_per_update=4)
    batches = [random_batch(seed, grids=2, prefixes=8) for seed in range(2)]
    whole, told = steps(optim, batches)
    tiled, told_in_tiles = steps(optim, batches, tile=TileConfig(2, 4))
    assert_near(tiled.model, whole.model, 1e-3)
    for a, b in zip(told_in_tiles, told, strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx(
            {k: float(v) for k, v in b.items()}, rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize("name", LOSSES)
def test_single_pairs_of_single_tokens_are_the_smallest_tiles(name):
    """Two grids of two prefixes, each of one token or none, and suffixes of one."""
    batch = random_batch(6, grids=2, prefixes=2, context=1, length=1)
    assert sorted(batch.tokens.prefix_lengths.ravel()) == [0, 0, 1, 1]
    whole = gradients(batch, LOSSES[name], TileConfig())
    assert_near(gradients(batch, LOSSES[name], TileConfig(1, 1)), whole, 2e-6)


@pytest.mark.parametrize(("half", "where"), [("prefixes", (0, 1)), ("suffixes", (0, 3))])
def test_one_tile_that_is_not_finite_leaves_the_whole_update_out(half, where):
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=0)
    good, bad = (random_batch(seed, vocab=POISON, full=True) for seed in (2, 1))
    getattr(bad.tokens, half)[where] = POISON
    before, tile = poisoned_state(optim), TileConfig(1, 2)
    after, (_, metrics) = steps(optim, [bad, bad], state=before, tile=tile)
    jax.tree.map(np.testing.assert_array_equal, after[:2], before[:2])
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (2, 2)
    moved, (_, metrics) = steps(optim, [bad, good], state=before, tile=tile)
    assert (metrics["skipped_updates"], metrics["skipped_in_a_row"]) == (1, 0)
    assert (moved.model.head[...] != before.model.head[...]).any()


def step_memory(prefixes, tile):
    """Temporaries of the whole compiled step, its optimizer included [bytes]."""
    config = dataclasses.replace(TINY, width=64, mlp_width=192, head_dim=16)
    optimizer = make_optimizer(OptimConfig(), steps=1, updates_per_step=1)
    with jax.set_mesh(make_mesh(MeshConfig())):
        init = partial(init_state, optimizer=optimizer)
        state = jax.eval_shape(init, shapes_of(RewardModel, config))
        batch = random_batch(0, prefixes=prefixes, context=32, length=32)
        step = make_step(optimizer, ObjectiveConfig(), OptimConfig(), tile)
        compiled = step.lower(state, jax.tree.map(jnp.asarray, batch)).compile(AS_USED)
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_at_a_fixed_tile_memory_is_flat_in_the_number_of_prefixes():
    tile = TileConfig(4, 16)
    assert step_memory(128, tile) < 1.3 * step_memory(16, tile)
    assert step_memory(128, TileConfig(4)) > 3 * step_memory(128, tile), "rows alone would do"


@pytest.mark.parametrize("name", ["prefixes", "suffixes"])
def test_a_tile_of_nothing_is_refused(name):
    with pytest.raises(UserError, match=rf"tile\.{name} is 0"):
        TileConfig(**{name: 0})
