"""Which compiler flags change a step's program; each compiles in a process of its own.

An unknown flag ends the process, so a libtpu that no longer knows one of these fails here.
"""

import importlib.util
import os
import subprocess
import sys

import pytest

from rbs_jax.hosts.flags import set_flags

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is not installed: pip install 'rbs_jax[tpu]'",
    ),
]
STEP = """
import sys
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.experiment import Experiment
from rbs_jax.model.config import TransformerConfig
from rbs_jax.plan.compile import Compiled, Texts, compile_step
from rbs_jax.plan.pod import parse_pod
from rbs_jax.sharding import MeshConfig

experiment = Experiment(
    split=SplitConfig(16, 16),
    grid=GridConfig(prefixes=16, grids_per_step=2),
    model=TransformerConfig(
        vocab_size=512, width=256, mlp_width=512, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=64, remat="full", dtype="bfloat16",
    ),
    mesh=MeshConfig(data=2, fsdp=4),
)
result = compile_step(experiment, Texts(16, 16, 32), parse_pod("2*v5e:2x2").devices()).result
assert isinstance(result, Compiled)
sys.stdout.write(result.text)
"""
"""A small step on two slices, as it is compiled."""
USUAL = (
    "xla_tpu_enable_latency_hiding_scheduler",
    "xla_tpu_enable_async_collective_fusion",
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather",
    "xla_tpu_enable_async_collective_fusion_multiple_steps",
    "xla_tpu_overlap_compute_collective_tc",
    "xla_enable_async_all_gather",
    "xla_tpu_enable_data_parallel_all_reduce_opt",
    "xla_tpu_data_parallel_opt_different_sized_ops",
)
"""What TPU trainings set, as published scripts have it."""


def compiled(environ, expected=0):
    """The step's program, under an environment's flags; or what the process said."""
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == expected, done.stderr
    return done.stderr if expected else done.stdout


@pytest.fixture(scope="module")
def without_flags():
    return compiled({"LIBTPU_INIT_ARGS": ""})


def test_a_step_compiles_with_our_flags():
    environ = {"LIBTPU_INIT_ARGS": ""}
    set_flags(environ)
    assert "ENTRY" in compiled(environ)


def test_the_usual_flags_change_nothing(without_flags):
    """When they do, rbs_jax/hosts/flags.py wants a look."""
    usual = " ".join(f"--{name}=true" for name in USUAL)
    assert compiled({"LIBTPU_INIT_ARGS": usual}) == without_flags


def test_a_flag_that_changes_the_program_is_seen(without_flags):
    fewer = compiled({"LIBTPU_INIT_ARGS": "--xla_tpu_enable_async_collective_fusion=false"})
    assert "async_collective_fusion" in without_flags
    assert "async_collective_fusion" not in fewer


def test_an_unknown_flag_is_seen():
    said = compiled({"LIBTPU_INIT_ARGS": "--xla_tpu_no_such_flag=true"}, expected=1)
    assert "xla_tpu_no_such_flag" in said
