"""The merging of two parts, with parts in plain code, against attention in one piece."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model import fused
from rbs_jax.model.two_parts import TwoParts
from rbs_jax.sharding import MeshConfig, activation_spec, make_mesh
from tests.model.attended import LETTERS, drawn, plain, values_and_gradients
from tests.model.plain_part import PlainPart

PLAIN = TwoParts(PlainPart(causal=True), PlainPart(causal=False))


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("queries", [1, 3])
def test_two_parts_merge_to_the_whole(dtype, bound, queries):
    with jax.enable_x64(dtype == "float64"), jax.set_mesh(make_mesh(MeshConfig())):
        *arrays, dy = drawn(dtype, Q=queries)
        # A key behind an empty prefix that would outweigh every other.
        arrays[3][0, 0] *= 1e5
        lengths = np.array([[0, 1, 4, 7], [7, 0, 3, 2]], np.int32)
        ours = values_and_gradients(partial(fused.attend, PLAIN), arrays, lengths, dy)
        theirs = values_and_gradients(plain, arrays, lengths, dy)
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("packed", [True, False])
def test_texts_without_a_prefix_need_their_own_part_alone(window, packed, mesh):
    *arrays, dy = drawn("float32")
    lengths = np.full((2, 4), 9, np.int32)
    segments = np.sort(np.random.default_rng(1).integers(3, size=(2, 4, 3, 5))) if packed else None
    parts = TwoParts(PlainPart(causal=True, window=window), None)
    for a, b in zip(
        values_and_gradients(partial(fused.attend, parts), arrays[:3], lengths, dy, segments),
        values_and_gradients(partial(plain, window=window), arrays[:3], lengths, dy, segments),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Careless(PlainPart):
    """Writes NaN as the gradient of keys that no query sees, as a kernel may."""

    def backward(self, q, k, v, lengths, *rest):
        dq, dk, dv = super().backward(q, k, v, lengths, *rest)
        seen = (jnp.arange(k.shape[1]) < lengths[:, None])[..., None, None]
        return dq, jnp.where(seen, dk, jnp.nan), jnp.where(seen, dv, jnp.nan)


def test_what_a_kernel_leaves_behind_the_length_is_no_gradient(mesh):
    *arrays, dy = drawn("float32")
    lengths = np.array([[0, 1, 4, 7], [7, 0, 3, 2]], np.int32)
    parts = PLAIN._replace(prefix=Careless(causal=False))
    ours = values_and_gradients(partial(fused.attend, parts), arrays, lengths, dy)
    theirs = values_and_gradients(plain, arrays, lengths, dy)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (1, 4, 2)])
@pytest.mark.parametrize("packed", [True, False])
def test_every_mesh_computes_the_same_and_again_for_its_gradients(shape, packed):
    *arrays, dy = drawn("float32")
    lengths = np.array([[0, 1, 4, 7], [7, 0, 3, 2]], np.int32)
    segments = np.sort(np.random.default_rng(1).integers(3, size=(2, 4, 3, 5))) if packed else None
    arrays = arrays[:3] if packed else arrays
    ours = partial(fused.attend, PLAIN)
    with jax.set_mesh(make_mesh(MeshConfig())):
        expected = values_and_gradients(plain, arrays, lengths, dy, segments)
    with jax.set_mesh(make_mesh(MeshConfig(*shape))):
        specs = [activation_spec(letters) for letters in LETTERS[: len(arrays)]]
        placed = [jax.device_put(x, spec) for x, spec in zip(arrays, specs, strict=True)]
        got = values_and_gradients(jax.checkpoint(ours), placed, lengths, dy, segments)
    for a, b, spec in zip(got, expected, (specs[0], *specs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert a.sharding.spec == spec
