"""Killed without warning in the middle, the same command makes the same file, bit by bit."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import TrainState
from tests.score.tiny import EXPERIMENT, TOKENS, loaded_on

pytestmark = pytest.mark.slow

COMMAND = """
import sys
from rbs_jax.score import files
files.LINES = 16
from rbs_jax.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and a file of many parts."""
    folder = tmp_path_factory.mktemp("killed")
    loaded, none = loaded_on((1, 1, 1)), jnp.zeros((), jnp.int32)
    with (
        jax.set_mesh(loaded.model.head[...].sharding.mesh),
        Checkpoints(folder / "run", keep=1) as checkpoints,
    ):
        state = TrainState(loaded.model, {}, none, none)
        checkpoints.save(1, state, {"next_step": 1}, EXPERIMENT, {})
    TOKENS.save(folder / "run")
    lines = [
        {"prompt": "abc " * (n % 5), "responses": [f"{n}", "def " * (n % 7)], "id": n}
        for n in range(16 * 200)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def start(folder, out):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "score", "run", "in.jsonl", "--out", out],
        cwd=folder,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process):
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    return json.loads(said)


def test_a_killed_command_goes_on_to_the_same_bytes(folder):
    whole = finish(start(folder, "unbroken.jsonl"))
    assert whole["scored_before"] == 0
    parts = folder / "out.jsonl.partial"
    for at_least in (20, 120):
        process = start(folder, "out.jsonl")
        deadline = time.monotonic() + 200
        while not parts.exists() or len(list(parts.iterdir())) < at_least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.communicate()
        assert not (folder / "out.jsonl").exists()
    result = finish(start(folder, "out.jsonl"))
    assert 119 * 32 <= result["scored_before"] < result["responses"] == whole["responses"]
    assert (folder / "out.jsonl").read_bytes() == (folder / "unbroken.jsonl").read_bytes()
    assert not parts.exists()
