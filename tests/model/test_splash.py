"""Splash attention, interpreted step by step on CPU; compiled for a TPU in tests/tpu_aot.

With a TPU, `RBS_TEST_ON=tpu python -m pytest tests/model/test_splash.py -k a_tpu` runs it there.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model import fused
from rbs_jax.model.splash import Splash
from rbs_jax.sharding import MeshConfig, activation_spec, make_mesh
from tests.model.attended import (
    LETTERS,
    agrees_in_bfloat16,
    drawn,
    plain,
    values_and_gradients,
)

INTERPRETED = partial(Splash, interpret=True)
SMALL = {"G": 2, "P": 2, "S": 2, "T": 60, "C": 130, "K": 2, "Q": 2, "H": 8}


def both(arrays, lengths, dy, segments=None, window=None):
    """Splash attention's values and gradients beside the plain code's."""
    ours = partial(fused.attend, INTERPRETED(window=window))
    got = values_and_gradients(ours, arrays, lengths, dy, segments)
    plainly = partial(plain, window=window)
    return zip(got, values_and_gradients(plainly, arrays, lengths, dy, segments), strict=True)


@pytest.mark.parametrize("sizes", [{}, {"Q": 1, "C": 128, "T": 128}])
def test_a_grid_is_attended_as_by_plain_code(sizes, mesh):
    *arrays, dy = drawn("float32", **{**SMALL, **sizes})
    # A key behind an empty prefix that would outweigh every other.
    arrays[3][0, 0] *= 1e5
    lengths = np.array([[0, 1], [77, arrays[3].shape[2]]], np.int32)
    for a, b in both(arrays, lengths, dy):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 140, 1])
def test_a_text_of_several_blocks_sees_its_window(window, mesh):
    *arrays, dy = drawn("float32", G=1, P=1, S=1, T=600, K=1, Q=2, H=8)
    for a, b in both(arrays[:3], np.array([[9]], np.int32), dy, window=window):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_prefix_of_several_blocks_is_seen_up_to_its_length(mesh):
    *arrays, dy = drawn("float32", G=1, P=1, S=2, T=130, C=500, K=1, Q=1, H=8)
    for a, b in both(arrays, np.array([[300]], np.int32), dy):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_packed_block_sees_its_own_documents(mesh):
    *arrays, dy = drawn("float32", **SMALL)
    chance = np.random.default_rng(1)
    segments = np.sort(chance.integers(4, size=(2, 2, 2, 60))).astype(np.int32)
    for a, b in both(arrays[:3], np.zeros((2, 2), np.int32), dy, segments):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 4, 2)])
def test_every_mesh_computes_the_same_and_again_for_its_gradients(shape):
    *arrays, dy = drawn("float32", **{**SMALL, "P": 4})
    lengths = np.array([[0, 1, 4, 7], [130, 0, 3, 2]], np.int32)
    with jax.set_mesh(make_mesh(MeshConfig())):
        expected = values_and_gradients(plain, arrays, lengths, dy)
    with jax.set_mesh(make_mesh(MeshConfig(*shape))):
        specs = [activation_spec(letters) for letters in LETTERS]
        placed = [jax.device_put(x, spec) for x, spec in zip(arrays, specs, strict=True)]
        ours = jax.checkpoint(partial(fused.attend, INTERPRETED()))
        got = values_and_gradients(ours, placed, lengths, dy)
    for a, b, spec in zip(got, expected, (specs[0], *specs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert a.sharding.spec == spec


CASES = pytest.mark.parametrize(("window", "prefix"), [(None, True), (None, False), (20, False)])


@CASES
@pytest.mark.skipif(jax.default_backend() != "tpu", reason="needs a TPU")
def test_a_tpu_computes_attention(window, prefix, mesh):
    agrees_in_bfloat16(Splash(window), window, prefix)


@CASES
def test_in_bfloat16_it_is_as_near_as_plain_code(window, prefix, mesh):
    agrees_in_bfloat16(INTERPRETED(window=window), window, prefix, S=1, K=1, Q=2)


def test_a_prefix_sums_the_gradients_of_its_suffixes_in_float32(mesh):
    *arrays, dy = (jnp.array(x, jnp.bfloat16) for x in drawn("float32", **SMALL))
    gradients = partial(values_and_gradients, partial(fused.attend, Splash()))
    program = str(jax.make_jaxpr(gradients)(arrays, jnp.zeros((2, 2), int), dy))
    summed = re.findall(r":(\w+)\[[^=]*= reduce_sum", program)
    assert "f32" in summed
    assert "bf16" not in summed


@pytest.mark.parametrize(("window", "packed"), [(3, False), (None, True)])
def test_a_prefix_with_a_window_or_segments_is_refused(window, packed, mesh):
    q, k, v, *prefix, _ = (jnp.array(x) for x in drawn("float32", **SMALL))
    segments = jnp.zeros((2, 2, 2, 60), int) if packed else None
    with pytest.raises(ValueError, match="no prefix"):
        fused.attend(
            INTERPRETED(window=window), q, k, v, tuple(prefix), jnp.zeros((2, 2), int), segments
        )
