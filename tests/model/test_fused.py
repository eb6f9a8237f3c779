"""Which kernel attends what; that of TPUs is asked for in tests/tpu_aot."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from rbs_jax.model import cudnn, fused
from rbs_jax.model.splash import Splash

KINDS = {"gpu": "NVIDIA H200", "tpu": "TPU v5 lite", "cpu": "cpu"}


def asked(platform, dtype=jnp.bfloat16, T=6, C=4, H=8, window=None, packed=False):
    """The implementation for one prefix of C positions, or none, and one text of T."""
    device = AbstractDevice(device_kind=KINDS[platform], num_cores=1, platform=platform)
    kinds = (AxisType.Explicit,) * 3
    names = ("data", "fsdp", "tensor")
    with jax.sharding.use_abstract_mesh(
        AbstractMesh((1, 1, 1), names, axis_types=kinds, abstract_device=device)
    ):
        found = []

        def of(q, prefix, segments):
            found.append(fused.implementation(q, prefix, window, segments))

        keys = jax.ShapeDtypeStruct((1, 1, C, 2, H), dtype)
        q = jax.ShapeDtypeStruct((1, 1, 1, T, 2, 1, H), dtype)
        segments = jax.ShapeDtypeStruct((1, 1, 1, T), jnp.int32) if packed else None
        jax.eval_shape(of, q, (keys, keys) if C else None, segments)
    return found[0]


@pytest.mark.parametrize(
    ("platform", "case", "kernel"),
    [
        ("cpu", {}, None),
        ("gpu", {}, cudnn.kernel()),
        ("gpu", {"dtype": jnp.float32}, None),
        ("gpu", {"H": 136}, None),
        ("gpu", {"H": 12}, None),
        ("gpu", {"H": 128}, cudnn.kernel()),
        ("gpu", {"T": 5}, None),
        ("gpu", {"C": 3}, None),
        ("gpu", {"C": 0, "packed": True}, None),
        ("gpu", {"C": 0, "window": 6}, cudnn.kernel()),
        ("gpu", {"C": 0, "window": 5}, cudnn.kernel(5)),
        ("gpu", {"window": 10}, cudnn.kernel()),
        ("gpu", {"window": 9}, None),
        ("tpu", {}, Splash()),
        ("tpu", {"dtype": jnp.float32}, None),
        ("tpu", {"T": 5, "C": 3, "H": 6}, Splash()),
        ("tpu", {"C": 0, "packed": True}, Splash()),
        ("tpu", {"packed": True}, None),
        ("tpu", {"C": 0, "packed": True, "window": 5}, Splash(5)),
        ("tpu", {"window": 9}, None),
    ],
)
def test_a_kernel_is_used_for_what_it_can(platform, case, kernel):
    assert asked(platform, **case) == kernel


def test_without_a_mesh_the_code_is_plain():
    q = jnp.zeros((1, 1, 1, 6, 2, 1, 8), jnp.bfloat16)
    assert fused.implementation(q, None, None, None) is None
