"""Attention compiled for a TPU that is not here: the kernel is in, the logits are not."""

import os
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from rbs_jax.model import fused
from rbs_jax.model.splash import Splash
from rbs_jax.sharding import activation_sharding
from tests.model.attended import LETTERS, plain, values_and_gradients

pytest.importorskip("libtpu")
pytestmark = pytest.mark.tpu

# Llama-3.2-1B with two suffixes, so that no number of texts is one of positions.
SIZES = {"G": 1, "P": 16, "S": 2, "T": 1024, "C": 512, "K": 8, "Q": 4, "H": 64}


@pytest.fixture(scope="module")
def pod():
    """The 16 chips of a v5e:4x4."""
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    devices = np.array(topologies.get_topology_desc("v5e:4x4", "tpu").devices)
    names, kinds = ("data", "fsdp", "tensor"), (AxisType.Explicit,) * 3
    return Mesh(devices.reshape(1, 8, 2), names, axis_types=kinds)


def by_implementation(expected, window):
    """Attention as the mesh's platform says, which must be `expected`."""

    def attend(q, k, v, prefix, lengths, segments):
        kernel = fused.implementation(q, prefix, window, segments)
        assert kernel == expected
        return fused.attend(kernel, q, k, v, prefix, lengths, segments)

    return attend


def compiled(attend, mesh, prefix, packed=False):
    """The program of the output and all gradients."""

    def like(letters, dtype):
        shape = [SIZES[letter] for letter in letters]
        return jax.ShapeDtypeStruct(shape, dtype, sharding=activation_sharding(mesh, letters))

    gradients = jax.jit(partial(values_and_gradients, attend))
    arrays = [like(letters, jnp.bfloat16) for letters in LETTERS[: 5 if prefix else 3]]
    segments = like("GPST", jnp.int32) if packed else None
    with jax.set_mesh(mesh):
        lowered = gradients.lower(arrays, like("GP", jnp.int32), arrays[0], segments)
        return lowered.compile().as_text()


def logits_in(program):
    """Shapes of numbers with two axes of positions."""
    shapes = {tuple(x.split(",")) for x in re.findall(r"(?:f32|bf16)\[([\d,]+)\]", program)}
    return [shape for shape in shapes if sum(int(n) >= 512 for n in shape) > 1]


@pytest.mark.parametrize(
    ("prefix", "window", "packed"),
    [(True, None, False), (False, None, False), (False, 300, True)],
)
def test_a_kernel_attends_each_way_and_writes_no_logits(prefix, window, packed, pod):
    program = compiled(by_implementation(Splash(window), window), pod, prefix, packed)
    calls = [line for line in program.splitlines() if "tpu_custom_call" in line]
    phases = [re.search(r"%splash_mha_(\w+?)_", line)[1] for line in calls]
    assert sorted(phases) == ["dkv", "dq", "fwd"]
    assert not logits_in(program)
    # Each device computes its own share alone.
    assert not re.search(r" (all-|reduce-scatter|collective)", program)


def test_logits_are_found_where_they_are(pod):
    assert logits_in(compiled(plain, pod, True))
