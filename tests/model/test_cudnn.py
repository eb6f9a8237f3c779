"""cuDNN's attention: its calls are read off the lowered program, its results need a GPU.

With one, `RBS_TEST_ON=cuda python -m pytest tests/model/test_cudnn.py` runs it.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as fmha

from rbs_jax.model import cudnn, fused
from rbs_jax.sharding import MeshConfig, activation_sharding, make_mesh
from tests.model.attended import (
    LETTERS,
    agrees_in_bfloat16,
    drawn,
    plain,
    values_and_gradients,
)
from tests.model.plain_part import PlainPart

# 30 suffixes, so that no number of texts is one of positions.
LLAMA_1B = {"G": 1, "P": 32, "S": 30, "T": 1024, "C": 512, "K": 8, "Q": 4, "H": 64}


def lowered_for_cuda(attend, prefix):
    """The program of the output and all gradients, at the sizes of Llama-3.2-1B and B=32."""

    def like(letters, dtype):
        shape = [LLAMA_1B[letter] for letter in letters]
        where = activation_sharding(jax.sharding.get_mesh(), letters)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    arrays = [like(letters, jnp.bfloat16) for letters in LETTERS[: 5 if prefix else 3]]
    lengths = like("GP", jnp.int32)
    traced = jax.jit(partial(values_and_gradients, attend)).trace(arrays, lengths, arrays[0])
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def logits_in(program):
    """Shapes with two axes of positions."""
    positions = {str(n) for n in (1024, 512, 30 * 1024)}
    shapes = {tuple(x.split("x")[:-1]) for x in re.findall(r"tensor<([^>]*)>", program)}
    return [shape for shape in shapes if sum(n in positions for n in shape) > 1]


def calls_in(program):
    """Each call of cuDNN's attention and its mask."""
    target = r"@__cudnn\$(fmha\w+)\(.*?mask_type\\22: \\22(\w+)\\22"
    return sorted(re.findall(target, program))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 2)])
def test_the_grid_lowers_to_two_calls_each_way_and_no_logits(shape):
    with jax.set_mesh(make_mesh(MeshConfig(*shape))):
        program = lowered_for_cuda(partial(fused.attend, cudnn.kernel()), True)
    assert calls_in(program) == [
        ("fmhaSoftmax", "CAUSAL"),
        ("fmhaSoftmax", "PADDING"),
        ("fmhaSoftmaxBackward", "CAUSAL"),
        ("fmhaSoftmaxBackward", "PADDING"),
    ]
    assert not logits_in(program)
    # No key of a prefix is copied for its suffixes.
    assert "x30x512x" not in program


def test_texts_alone_lower_to_one_call_each_way_that_knows_the_window(mesh):
    program = lowered_for_cuda(partial(fused.attend, cudnn.kernel(window=100)), False)
    assert calls_in(program) == [("fmhaSoftmax", "CAUSAL"), ("fmhaSoftmaxBackward", "CAUSAL")]
    assert program.count(r"sliding_window_length\22: 100") == 2
    assert not logits_in(program)


def test_logits_are_found_where_they_are(mesh):
    program = lowered_for_cuda(plain, True)
    assert logits_in(program)
    assert not calls_in(program)


def test_segments_are_refused(mesh):
    q, k, v, *_ = (jnp.array(x, jnp.bfloat16) for x in drawn("float32", T=4, H=8))
    lengths, segments = jnp.zeros((2, 4), int), jnp.zeros((2, 4, 3, 4), int)
    with pytest.raises(ValueError, match="no segments"):
        fused.attend(cudnn.kernel(), q, k, v, None, lengths, segments)


CASES = pytest.mark.parametrize(("window", "prefix"), [(None, True), (None, False), (20, False)])


@CASES
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU")
def test_cudnn_computes_attention(window, prefix, mesh):
    agrees_in_bfloat16(cudnn.kernel(window), window, prefix)


def by_kv_head(x, like):
    """[B, T, N, H] or [B, N, T] with the heads of each kv head together."""
    x = x if x.ndim == 4 else x.mT
    return x.reshape(*x.shape[:2], like.shape[2], -1, *x.shape[3:])


def stand_in(mask, window, k, seqlens):
    causal = mask == fmha.MaskType.CAUSAL
    assert causal or (mask == fmha.MaskType.PADDING and window is None)
    return PlainPart(causal, window), None if causal else seqlens[1]


def forward_in_plain_code(q, k, v, bias, q_seqlen, kv_seqlen, *rest):
    *_, scale, _, dropout, _, mask, layout, window, _, residual = rest
    assert (scale, dropout, layout, residual) == (1.0, 0.0, fmha.AttentionLayout.BTNH.value, True)
    part, lengths = stand_in(mask, window, k, (q_seqlen, kv_seqlen))
    y, lse = part.forward(by_kv_head(q, k), k, v, lengths, None)
    if lengths is not None:
        y = jnp.where(jnp.arange(q.shape[1])[:, None, None, None] < q_seqlen[0], y, jnp.nan)
    return (y.reshape(q.shape), jax.lax.collapse(lse, 2, 4).mT), None


def backward_in_plain_code(scale, _, dropout, __, mask, layout, window, *rest):
    (q, k, v, _, q_seqlen, kv_seqlen, *_, lse, y), (dy,) = rest[2:]
    part, lengths = stand_in(mask, window, k, (q_seqlen, kv_seqlen))
    q, y, lse, dy = (by_kv_head(x, k) for x in (q, y, lse, dy))
    dq, dk, dv = part.backward(q, k, v, lengths, None, y, lse, dy)
    return jax.lax.collapse(dq, 2, 4), dk, dv, *[None] * 7


@CASES
def test_what_cudnn_is_asked_is_attention(window, prefix, mesh, monkeypatch):
    monkeypatch.setattr(fmha, "_dot_product_attention_fwd_rule", forward_in_plain_code)
    monkeypatch.setattr(fmha, "_dot_product_attention_bwd_rule", backward_in_plain_code)
    agrees_in_bfloat16(cudnn.kernel(window), window, prefix)
