"""Its values and gradients against a softmax of all keys in one piece, differentiated by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model.softmax import Part, softmax_attention

TEXT = (2, 3, 2)
"""G, P, K; of S = 2 suffixes with Q = 1 query head, T = 1, 3 or 5 positions and H = 4 numbers.

So the keys that suffixes share meet an even number of queries, and the others an odd one.
"""


def drawn(dtype, length):
    """Queries, keys and values of 7 shared keys and of 6 own ones, and a gradient of the output."""
    chance = np.random.default_rng(0)
    shapes = [(2, 1, length, 4), (1, 7, 4), (1, 7, 4), (2, 6, 4), (2, 6, 4), (2, 1, length, 4)]
    return [jnp.asarray(2 * chance.normal(size=TEXT + shape), dtype) for shape in shapes]


def seen(length):
    """Some shared keys, of a prefix none; of a suffix's own those up to the query."""
    shared = np.random.default_rng(1).random((2, 3, 1, 1, 7)) < 0.6
    shared[0, 1] = False
    return shared, np.tri(length, 6, dtype=bool)[None, None, None]


def in_parts(q, shared_k, shared_v, own_k, own_v):
    of_shared, of_own = seen(q.shape[-2])
    parts = (Part(shared_k, shared_v, of_shared), Part(own_k, own_v, of_own))
    return softmax_attention(q, parts)


def in_one_piece(q, shared_k, shared_v, own_k, own_v):
    def joined(shared, own):
        return jnp.concatenate([jnp.broadcast_to(shared, (*TEXT, 2, 7, 4)), own], axis=-2)

    logits = jnp.einsum("gpksqth,gpksuh->gpksqtu", q, joined(shared_k, own_k)) / 2
    length, masks = q.shape[-2], seen(q.shape[-2])
    whole = np.concatenate([np.broadcast_to(x, (2, 3, 2, length, x.shape[-1])) for x in masks], -1)
    logits = jnp.where(whole[:, :, None, :, None], logits, -jnp.inf)
    return jnp.einsum("gpksqtu,gpksuh->gpksqth", jax.nn.softmax(logits), joined(shared_v, own_v))


def values_and_gradients(attend, arrays, dy):
    @jax.jit
    def compiled(arrays, dy):
        y, back = jax.vjp(attend, *arrays)
        return attend(*arrays), y, *back(dy)

    return compiled(arrays, dy)


@pytest.mark.parametrize("length", [1, 3, 5])
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("bfloat16", 0.02)])
def test_parts_are_one_softmax_in_values_and_gradients(dtype, bound, length):
    wide = "float64" if dtype == "float64" else "float32"
    with jax.enable_x64(dtype == "float64"):
        *arrays, dy = drawn(dtype, length)
        got = values_and_gradients(in_parts, arrays, dy)
        *arrays, dy = (x.astype(wide) for x in (*arrays, dy))
        expected = values_and_gradients(in_one_piece, arrays, dy)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype
        difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
        assert np.linalg.norm(difference) < bound * np.linalg.norm(b)
