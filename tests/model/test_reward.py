import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.model import reward as reward_model
from rbs_jax.model.config import RopeScaling
from rbs_jax.model.kinds import fresh
from rbs_jax.model.reward import RewardModel
from rbs_jax.sharding import MeshConfig, make_mesh
from tests.model.noise import noisy
from tests.model.reference import reward
from tests.tiny import TINY, random_tokens

# Compiled, as every user of them does; one operation after another they are slow.
scores, score_grid = jax.jit(reward_model.scores), jax.jit(reward_model.score_grid)

FAMILIES = {
    "llama": {"rope_scaling": RopeScaling(8.0, 1.0, 4.0, 16), "rope_theta": 100.0},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 8},
    "mistral": {"num_kv_heads": 1, "sliding_window": 4},
}


def noisy_model(config=TINY):
    return noisy(RewardModel, config)


@pytest.mark.parametrize("family", FAMILIES)
def test_score_is_that_of_a_plain_decoder(family, mesh):
    config = dataclasses.replace(TINY, **FAMILIES[family])
    model = noisy_model(config)
    ids = np.random.default_rng(0).integers(64, size=9)
    ours = scores(model, jnp.array(ids)[None, None, None], jnp.array([[[9]]]))
    assert ours.item() == pytest.approx(reward(model, ids), rel=1e-4)


@cache
def _float64(window):
    """Compiled once for all examples: shapes stay, lengths and ids change."""
    config = dataclasses.replace(
        TINY, dtype="float64", qk_norm=True, qkv_bias=True, sliding_window=window, num_layers=3
    )
    model = noisy_model(config)
    model = jax.tree.map(lambda x: x.astype(jnp.float64), model)
    weights = np.random.default_rng(3).normal(size=(1, 2, 3))

    def fast(model, tokens):
        rewards = score_grid(model, tokens)
        return (rewards * weights).sum(), rewards

    def slow(model, rows, lengths):
        rewards = scores(model, rows, lengths)
        return (rewards * weights.reshape(1, 6, 1)).sum(), rewards

    return model, *(jax.jit(jax.value_and_grad(f, has_aux=True)) for f in (fast, slow))


def _pairs(tokens):
    """Every prefix and suffix concatenated into one text [1, 6, 1, C + T]."""
    own = tokens.suffixes.ndim == 4
    rows, lengths = [], []
    for p in range(2):
        for s in range(3):
            row = (0, p, s) if own else (0, s)
            ids = [*tokens.prefixes[0, p][: tokens.prefix_lengths[0, p]]]
            ids += [*tokens.suffixes[row][: tokens.suffix_lengths[row]]]
            lengths.append(len(ids))
            rows.append(ids + [0] * (9 - len(ids)))
    return jnp.array(rows)[None, :, None], jnp.array(lengths)[None, :, None]


@pytest.mark.parametrize("window", [None, 3, 5])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), own=st.booleans())
def test_grid_equals_each_pair_alone_in_values_and_gradients(window, seed, own):
    """Prefixes have up to 5 ids, suffixes up to 4."""
    tokens = random_tokens(seed, prefixes=2, suffixes=3, own=own)
    with jax.enable_x64(True), jax.set_mesh(make_mesh(MeshConfig())):
        model, fast, slow = _float64(window)
        (_, rewards), ours = fast(model, tokens)
        (_, expected), theirs = slow(model, *_pairs(tokens))
        np.testing.assert_allclose(rewards.ravel(), expected.ravel(), rtol=1e-10, atol=1e-12)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("window", [1, 4, 5, 8])
def test_a_windowed_grid_scores_as_a_plain_decoder_with_that_window(window, mesh):
    tokens = random_tokens(3, prefixes=3, suffixes=3)
    model = noisy_model(dataclasses.replace(TINY, sliding_window=window))
    rewards = score_grid(model, tokens)
    for p in range(3):
        for s in range(3):
            ids = [*tokens.prefixes[0, p][: tokens.prefix_lengths[0, p]]]
            ids += [*tokens.suffixes[0, s][: tokens.suffix_lengths[0, s]]]
            assert rewards[0, p, s] == pytest.approx(reward(model, ids), rel=1e-3, abs=1e-5)


def test_a_window_as_long_as_the_text_changes_nothing_and_a_shorter_one_does(mesh):
    tokens = random_tokens(3, full=True)
    scored = {
        window: score_grid(noisy_model(dataclasses.replace(TINY, sliding_window=window)), tokens)
        for window in (None, 8, 9, 50)
    }
    np.testing.assert_array_equal(scored[9], scored[None])
    np.testing.assert_array_equal(scored[50], scored[None])
    assert (scored[8] != scored[None]).all()


@pytest.mark.parametrize("window", [1, 4, 6, 9])
def test_one_layer_reads_the_latest_positions_of_its_window_and_no_other(window, mesh):
    """Every position has an id of its own, as below; the suffix ends at position 4 + 4 - 1."""
    tokens = random_tokens(0, prefixes=1, suffixes=1)
    ids = np.arange(9, dtype=np.int32)
    tokens = tokens._replace(
        prefixes=ids[None, None, :5],
        prefix_lengths=np.array([[4]], np.int32),
        suffixes=ids[None, None, 5:],
        suffix_lengths=np.array([[4]], np.int32),
    )
    model = noisy_model(dataclasses.replace(TINY, num_layers=1, sliding_window=window))
    gradient = jax.jit(jax.grad(lambda model: score_grid(model, tokens).sum()))(model)
    read = np.abs(gradient.trunk.embedding[...]).sum(-1)
    text = [0, 1, 2, 3, 5, 6, 7, 8]
    assert set(np.flatnonzero(read)) == set(text[-window:])


def test_the_offset_is_added_to_every_reward_and_is_no_weight(mesh):
    tokens = random_tokens(2)
    plain, moved = noisy_model(), noisy_model(dataclasses.replace(TINY, head_offset=1.5))
    np.testing.assert_allclose(
        score_grid(moved, tokens), score_grid(plain, tokens) + 1.5, rtol=1e-6
    )
    assert len(jax.tree.leaves(moved)) == len(jax.tree.leaves(plain))


def test_a_score_depends_on_its_own_prefix_and_suffix_and_nothing_else(mesh):
    """Every position has an id of its own, so the embedding's gradient shows who was read."""
    tokens = random_tokens(5, prefixes=3, suffixes=3, context=5, length=4)
    ids = np.arange(3 * 5 + 3 * 4, dtype=np.int32)
    tokens = tokens._replace(prefixes=ids[:15].reshape(1, 3, 5), suffixes=ids[15:].reshape(1, 3, 4))
    model = noisy_model()
    jacobian = jax.jit(jax.jacrev(lambda model: score_grid(model, tokens)))(model)
    read = np.abs(jacobian.trunk.embedding[...]).sum(-1)[0]
    for p in range(3):
        for s in range(3):
            before = tokens.prefixes[0, p][: tokens.prefix_lengths[0, p]]
            after = tokens.suffixes[0, s][: tokens.suffix_lengths[0, s]]
            seen = set(before) | set(after)
            assert seen == set(np.flatnonzero(read[p, s]))


def test_a_position_reads_no_later_one(mesh):
    """The reward read at position t depends on the embeddings up to t, and on each of them."""
    model = noisy_model()
    x = model.trunk.embed("GPST", jnp.arange(5)[None, None, None])

    def rewards(x):
        read = [jnp.array([[[t]]]) for t in range(5)]
        states = [model.trunk(x, jnp.zeros((1, 1), int), read_GPS=at)[0] for at in read]
        return jnp.stack([model.rewards(x_GPSTD) for x_GPSTD in states])

    read = np.abs(jax.jit(jax.jacrev(rewards))(x)).sum(-1).reshape(5, 5)
    np.testing.assert_array_equal(read != 0, np.tri(5, dtype=bool))


def test_of_several_segments_the_first_is_kept(mesh):
    trunk = noisy_model().trunk
    x = trunk.embed("GPST", jnp.arange(8).reshape(1, 1, 2, 4))
    encode = jax.jit(lambda x: trunk(x, jnp.zeros((1, 1), int))[1])
    near = partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(near, encode(x), encode(x[:, :, :1]))


def test_what_stands_in_the_padding_changes_no_bit(mesh):
    tokens = random_tokens(1, prefixes=2, suffixes=2)
    model = noisy_model()

    def padded_with(ids, lengths, filler):
        return np.where(np.arange(ids.shape[-1]) < lengths[..., None], ids, filler)

    zeros, others = (
        tokens._replace(
            prefixes=padded_with(tokens.prefixes, tokens.prefix_lengths, filler),
            suffixes=padded_with(tokens.suffixes, tokens.suffix_lengths, filler),
        )
        for filler in (0, 63)
    )
    np.testing.assert_array_equal(score_grid(model, zeros), score_grid(model, others))


def test_sharing_suffixes_changes_nothing(mesh):
    shared = random_tokens(2, prefixes=3, suffixes=4)
    own = shared._replace(
        suffixes=np.repeat(shared.suffixes[:, None], 3, axis=1),
        suffix_lengths=np.repeat(shared.suffix_lengths[:, None], 3, axis=1),
    )
    model = noisy_model()
    np.testing.assert_allclose(score_grid(model, shared), score_grid(model, own), rtol=1e-6)


def test_remat_and_unrolling_change_nothing(mesh):
    tokens = random_tokens(2)
    grads = []
    changes = ({}, {"remat": "full"}, {"remat": "dots"}, {"scan_layers": False})
    for change in changes:
        model = noisy_model(dataclasses.replace(TINY, num_layers=4, **change))
        grads.append(jax.jit(jax.grad(lambda model: score_grid(model, tokens).sum()))(model))
    for other in grads[1:]:
        for a, b in zip(jax.tree.leaves(grads[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_bfloat16_scores_are_float32_and_near(mesh):
    tokens = random_tokens(2)
    exact = score_grid(noisy_model(), tokens)
    coarse = score_grid(noisy_model(dataclasses.replace(TINY, dtype="bfloat16")), tokens)
    assert coarse.dtype == jnp.float32
    np.testing.assert_allclose(coarse, exact, atol=0.05 * np.abs(exact).max())


def test_fresh_norm_scales_are_1_biases_0_and_the_rest_drawn_one_by_one(mesh):
    config = dataclasses.replace(TINY, qk_norm=True, qkv_bias=True)
    model = fresh(RewardModel, 0, config)
    drawn = []
    for path, weight in jax.tree_util.tree_leaves_with_path(model):
        name = jax.tree_util.keystr(path)
        if "norm" in name or "bias" in name:
            np.testing.assert_array_equal(weight, float("norm" in name), err_msg=name)
        else:
            assert np.std(weight) == pytest.approx(config.init_scale, rel=0.5), name
            drawn += np.unique(weight).tolist()
    assert len(set(drawn)) > 0.99 * len(drawn)


@pytest.mark.parametrize("family", FAMILIES)
def test_biases_and_head_norms_are_there_where_a_family_has_them(family, mesh):
    model = noisy_model(config := dataclasses.replace(TINY, **FAMILIES[family]))
    attention = model.trunk.blocks.attention
    assert (attention.biases is not None, attention.norms is not None) == (
        config.qkv_bias,
        config.qk_norm,
    )


def test_weights_are_sharded_as_their_letters_say():
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    with jax.set_mesh(mesh):
        model = fresh(RewardModel, 0, TINY)
    query = model.trunk.blocks.attention.query[...]
    assert tuple(query.sharding.spec) == (None, "fsdp", "tensor", None, None)
    assert query.addressable_shards[0].data.size == query.size // 8


def test_the_same_seed_gives_the_same_weights_on_every_mesh():
    weights = []
    for shape in ((1, 1, 1), (1, 4, 2)):
        with jax.set_mesh(make_mesh(MeshConfig(*shape))):
            weights.append(jax.device_get(fresh(RewardModel, 0, TINY)))
    jax.tree.map(np.testing.assert_array_equal, *weights)
