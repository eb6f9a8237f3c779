import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.layers import add_bias, look_up
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.shapes import TokenBlocks
from rbs_jax.sharding import MeshConfig, activation_sharding, einsum, make_mesh, weight_spec
from tests.losses import loss_and_rewards, loss_and_targets
from tests.model.jaxprs import operations, traced
from tests.tiny import TINY, random_batch

HALF = dataclasses.replace(TINY, dtype="bfloat16", qkv_bias=True, qk_norm=True)
SMOOTH = {"exp", "exp2", "log", "log1p", "rsqrt", "sqrt", "div", "sin", "cos", "tanh", "erf"}
"""What bfloat16 is too coarse for: norms, softmax, angles and losses. A gate's logistic is not."""
MESHES = [(1, 1, 1), (2, 2, 2)]


def operations_of(kind):
    """All operations of the loss and its gradients, computed in bfloat16."""
    if kind is RewardModel:

        def loss(model, batch):
            return loss_and_rewards(model, batch, ObjectiveConfig())

        batch = random_batch(0)
    else:
        loss = loss_and_targets
        batch = TokenBlocks(*(np.zeros((1, 2, 11), np.int32) for _ in range(2)))
    both = jax.value_and_grad(loss, has_aux=True)
    return list(operations(traced(both, shapes_of(kind, HALF), batch)))


def made_in_bfloat16(operation):
    return any(out.aval.dtype == jnp.bfloat16 for out in operation.outvars)


@pytest.mark.parametrize("kind", [RewardModel, LanguageModel])
def test_products_are_summed_and_smooth_functions_computed_in_float32(kind, mesh):
    coarse = [o.primitive.name for o in operations_of(kind) if made_in_bfloat16(o)]
    assert "add" in coarse, "nothing was computed in bfloat16"
    assert not SMOOTH & set(coarse)
    assert "dot_general" not in coarse


@pytest.mark.parametrize("kind", [RewardModel, LanguageModel])
def test_no_sum_runs_in_bfloat16(kind, mesh):
    """Gradients are sums over positions: the embeddings', the biases', and over P a suffix's."""
    for operation in operations_of(kind):
        if made_in_bfloat16(operation):
            name, out = operation.primitive.name, operation.outvars[0].aval
            assert name not in {"scatter-add", "cumsum", "psum"}, operation.source_info
            sums = name == "reduce_sum" and out.size < operation.invars[0].aval.size
            assert not sums, f"{operation.invars[0].aval} -> {out}"


def rounded_error(got, exact):
    """The largest error in halves of bfloat16's last place, so 1 is what rounding alone may do."""
    exact = np.asarray(exact, np.float64)
    last_place = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
    return (np.abs(np.asarray(got, np.float64) - exact) / last_place).max() * 2


@pytest.mark.parametrize("terms", [64, 8192])
def test_a_product_in_bfloat16_is_the_rounded_exact_one(terms, mesh):
    """On this backend; sums of bfloat16 numbers would be 100 times farther off."""
    chance = np.random.default_rng(0)
    x = np.abs(chance.normal(size=(1, 1, 1, 8, terms))).astype(jnp.bfloat16)
    w = np.abs(chance.normal(size=(terms, 16))).astype(jnp.bfloat16)
    dy = np.abs(chance.normal(size=(1, 1, 1, 8, 16))).astype(jnp.bfloat16)
    y, transpose = jax.vjp(jax.jit(lambda x, w: einsum("GPSTD,DF->GPSTF", x, w)), x, w)
    dx, dw = transpose(jax.device_put(dy, activation_sharding(mesh, "GPSTF")))
    wide = [a.astype(np.float64) for a in (x, w, dy)]
    assert {a.dtype for a in (y, dx, dw)} == {jnp.dtype("bfloat16")}
    assert rounded_error(y, wide[0] @ wide[1]) < 1.01
    assert rounded_error(dx, wide[2] @ wide[1].T) < 1.01
    assert rounded_error(dw, np.einsum("gpstd,gpstf->df", wide[0], wide[2])) < 1.01


@pytest.mark.parametrize("shape", MESHES)
def test_a_frequent_token_gets_all_of_its_gradient(shape):
    """3 ids, each 700 times; in bfloat16 a third of the sum is lost."""
    mesh, chance = make_mesh(MeshConfig(*shape)), np.random.default_rng(0)
    tokens = chance.integers(3, size=(2, 2, 512)).astype(np.int32)
    dx = np.abs(chance.normal(size=(2, 2, 512, 16))).astype(jnp.bfloat16)
    with jax.set_mesh(mesh):
        placed = jax.device_put(tokens, activation_sharding(mesh, "GPC"))
        dx_GPCD = jax.device_put(dx, activation_sharding(mesh, "GPCD"))
        table = jax.device_put(chance.normal(size=(3, 16)).astype(np.float32), weight_spec("VD"))

        def total(table, tokens, dx_GPCD):
            x_GPCD = look_up(table, tokens, "GPC", jnp.dtype("bfloat16"))
            return (x_GPCD.astype(jnp.float32) * dx_GPCD).sum(), x_GPCD

        got, x_GPCD = jax.jit(jax.grad(total, has_aux=True))(table, placed, dx_GPCD)
    assert x_GPCD.dtype == jnp.bfloat16
    np.testing.assert_array_equal(x_GPCD, np.asarray(table).astype(jnp.bfloat16)[tokens])
    assert (got.dtype, got.sharding) == (table.dtype, table.sharding)
    expected = [dx.astype(np.float64)[tokens == token].sum(axis=0) for token in range(3)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", MESHES)
def test_a_bias_gets_all_of_its_gradient(shape):
    mesh, chance = make_mesh(MeshConfig(*shape)), np.random.default_rng(0)
    dy = np.abs(chance.normal(size=(2, 2, 3, 512, 2, 4))).astype(jnp.bfloat16)
    with jax.set_mesh(mesh):
        dy_GPSTKH = jax.device_put(dy, activation_sharding(mesh, "GPSTKH"))
        bias = jax.device_put(chance.normal(size=(2, 4)).astype(np.float32), weight_spec("KH"))

        def total(bias, dy_GPSTKH):
            y_GPSTKH = add_bias(jnp.ones_like(dy_GPSTKH), bias, "KH")
            return (y_GPSTKH * dy_GPSTKH).astype(jnp.float32).sum(), y_GPSTKH

        got, y_GPSTKH = jax.jit(jax.grad(total, has_aux=True))(bias, dy_GPSTKH)
    assert y_GPSTKH.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(y_GPSTKH)[0, 0, 0, 0], (1 + np.asarray(bias)).astype(jnp.bfloat16)
    )
    np.testing.assert_allclose(got, dy.astype(np.float64).sum(axis=(0, 1, 2, 3)), rtol=1e-5)
