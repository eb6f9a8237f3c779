"""What a kernel's attention is compared with, and on what."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rbs_jax.model import attention, fused
from rbs_jax.model.attention import KeysValues

LETTERS = ("GPSTKQH", "GPSTKH", "GPSTKH", "GPCKH", "GPCKH")
SIZES = {"G": 2, "P": 4, "S": 3, "T": 5, "C": 7, "K": 2, "Q": 3, "H": 4}


def drawn(dtype, **sizes):
    """Queries, keys, values, the prefix's keys and values, and a gradient of the output."""
    chance = np.random.default_rng(0)
    sizes = {**SIZES, **sizes}
    letters = (*LETTERS, LETTERS[0])
    return [chance.normal(size=[sizes[x] for x in row]).astype(dtype) for row in letters]


def values_and_gradients(attend, arrays, lengths, dy, segments=None):
    """The output and the gradients of all five arrays, or of three without a prefix."""

    @jax.jit
    def compiled(arrays, lengths, dy, segments):
        def of(q, k, v, *prefix):
            return attend(q, k, v, KeysValues(*prefix) if prefix else None, lengths, segments)

        y, back = jax.vjp(of, *arrays)
        return y, *back(jax.sharding.reshard(dy, jax.typeof(y).sharding.spec))

    return compiled(arrays, lengths, dy, segments)


def plain(q, k, v, prefix, lengths, segments, window=None):
    return attention._plain(q, k, v, prefix, lengths, window, segments, None)


def agrees_in_bfloat16(kernel, window, prefix, **fewer):
    """Values and gradients to 0.5% of plain code's in float32; its own are to 0.3%."""
    sizes = {"T": 96, "C": 160, "S": 4, "H": 64, "Q": 4, **fewer}
    *arrays, dy = (jnp.array(x, jnp.bfloat16) for x in drawn("float32", **sizes))
    lengths = jnp.array([[0, 1, 77, 160], [160, 0, 128, 3]])
    arrays = arrays[: 5 if prefix else 3]
    got = values_and_gradients(partial(fused.attend, kernel), arrays, lengths, dy)
    wide = [x.astype(jnp.float32) for x in (*arrays, dy)]
    with jax.default_matmul_precision("highest"):
        plainly = partial(plain, window=window)
        true = values_and_gradients(plainly, wide[:-1], lengths, wide[-1])
    for a, b in zip(got, true, strict=True):
        assert a.dtype == jnp.bfloat16
        difference = np.asarray(a, np.float32) - np.asarray(b)
        assert np.linalg.norm(difference) < 0.005 * np.linalg.norm(b)
    if prefix:
        unseen = np.arange(160) >= np.asarray(lengths)[..., None]
        assert not np.asarray(got[4], np.float32)[unseen].any()
