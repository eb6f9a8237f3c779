"""`--compiled gs://...`: what one run has compiled, the next need not."""

import os
import subprocess
import sys

import pytest

COMMAND = """
import sys
sys.argv = ["launch/tpu.py", "--simulate", "1", "--logs", sys.argv[2], "--compiled", sys.argv[1]]
from rbs_jax.launch import _prepare, parse
_prepare(parse(sys.argv[1:])[0])
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_explain_cache_misses", True)
print(jax.jit(lambda x: x * 2 + 1)(20.5))
"""


def run(url, logs):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, url, str(logs)],
        env=os.environ | {"JAX_LOG_COMPILES": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


@pytest.mark.slow
def test_compiled_programs_are_kept_in_a_bucket(gs, tmp_path):
    first, second = (run(f"{gs.url}/compiled", tmp_path) for _ in range(2))
    assert first.stdout == second.stdout == "42.0\n"
    assert [name for name in gs.names() if name.startswith("compiled/jit")]
    assert "cache hit" in second.stderr
    assert "cache hit" not in first.stderr
