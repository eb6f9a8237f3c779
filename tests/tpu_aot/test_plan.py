"""`rbs plan` with the real compiler, each time as a process of its own, as libtpu's log wants."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rbs_jax.plan.chips import CHIPS

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is not installed: pip install 'rbs_jax[tpu]'",
    ),
]
SMALL = """
from rbs_jax.experiment import Experiment, GridConfig, MeshConfig, SplitConfig
from rbs_jax.model.config import TransformerConfig

experiment = Experiment(
    split=SplitConfig(16, 16),
    grid=GridConfig(prefixes=16),
    model=TransformerConfig(
        vocab_size=512, width=2048, mlp_width=512, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=32, remat="full", dtype="float32",
    ),
    mesh=MeshConfig(fsdp=16),
)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.py").write_text(SMALL)
    return tmp_path


def rbs(folder, *arguments):
    """`rbs plan small.py`, and what it said."""
    return subprocess.run(
        [sys.executable, "-m", "rbs_jax", "plan", "small.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def planned(folder, *arguments):
    done = rbs(folder, *arguments, "--out", "plans/plan.json")
    assert done.returncode in (0, 1), done.stderr
    said = done.stderr.splitlines()
    assert all(line.startswith("compiling for ") for line in said), "only our lines"
    found = json.loads((folder / "plans" / "plan.json").read_text())
    assert len(said) == len(found["candidates"])
    assert done.returncode == (0 if found["fits"] else 1)
    return found, done.stdout


def test_a_small_model_fits_and_every_figure_is_there(folder):
    found, said = planned(folder, "--topology", "v5e:4x4", "--meshes", "1", "--utilisation", "0.5")
    assert (found["topology"], found["chips"], found["fits"]) == ("v5e:4x4", 16, True)
    assert found["config"] == "small.py"
    assert set(found["compiled_with"]) == {"jax", "jaxlib", "libtpu"}
    assert found["text_lengths"] == {"prefix": 16, "suffix": 16, "block": 32}
    (entry,) = found["candidates"]
    assert entry["settings"] == found["recommended"]
    assert entry["settings"]["mesh.fsdp"] == 16
    assert entry["copied_whole"] == [], "involuntary rematerialisation"
    assert entry["loops_of_unknown_length"] == []
    assert entry["kernels_without_flops"] == 0
    memory = entry["memory"]
    layer = 2048 * 32 * (4 + 2 + 2 + 4) + 3 * 2048 * 512
    assert memory["arguments"] == pytest.approx(3 * 4 * (512 * 2048 + 2 * layer) / 16, rel=0.1)
    assert memory["aliased"] == pytest.approx(memory["outputs"], rel=0.1), "the state is donated"
    assert 0 < memory["peak"] < CHIPS["v5e"].usable
    # Products run forward, again, and twice for gradients, on 1 + 16 texts; all of the last
    # layer but its keys and values for one position of each.
    products = 2 * (layer + 2048 * 32 * (2 + 2)) * 16 * (1 + 16)
    assert entry["flops"] == pytest.approx(4 * products, rel=0.2)
    # Of these four times all are useful but the second forward pass.
    assert entry["useful_flops"] == pytest.approx(entry["flops"] * 3 / 4, rel=0.2)
    assert {"all-gather", "all-reduce"} <= set(entry["collectives"])
    assert entry["step_seconds_at_least"] == max(entry["bounds"].values())
    assert entry["step_seconds_estimate"] >= entry["step_seconds_at_least"]
    assert "yes: it fits with --mesh.data 1 --mesh.fsdp 16 --mesh.tensor 1" in said


def test_several_slices_exchange_gradients_between_them(folder):
    found, _ = planned(folder, "--topology", "2*v5e:2x2", "--meshes", "1")
    (entry,) = found["candidates"]
    assert (found["chips"], entry["settings"]["mesh.data"]) == (8, 2)
    assert entry["settings"]["grid.grids_per_step"] == 2
    assert entry["copied_whole"] == []
    sent = {kind for kind in entry["collectives"] if kind.startswith("slices ")}
    assert sent == {"slices all-reduce"}
    assert entry["bounds"]["network between slices"] > 0


@pytest.mark.parametrize("topology", ["v5p:2x2x1", "v6e:2x2"])
def test_other_chips_are_compiled_for(folder, topology):
    found, _ = planned(folder, "--topology", topology, "--meshes", "1")
    assert found["fits"]
    assert found["candidates"][0]["copied_whole"] == []


def test_a_model_too_large_is_answered_with_no_and_its_bytes(folder):
    found, said = planned(
        *(folder, "--topology", "v5e:2x2", "--meshes", "1"),
        *("--model.vocab-size", "128000", "--model.width", "65536", "--model.remat", "dots"),
    )
    assert found["recommended"] is None
    remats = [entry["settings"]["model.remat"] for entry in found["candidates"]]
    assert remats[:2] == ["dots", "full"], "what saves memory is tried"
    assert found["candidates"][-1]["settings"]["tile.suffixes"] < 16, "smaller tiles too"
    for entry in found["candidates"]:
        assert not entry["fits"]
        # Weights and two moments of the embedding table alone, over 4 chips.
        assert 3 * 128000 * 65536 < entry["needed"] < 12 * 3 * 128000 * 65536
    assert said.endswith("no: it does not fit\n")


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("v5e:5x5", "--topology v5e:5x5: libtpu knows no such slice"),
        ("v5e:4x4x4", "a slice of v5e has 2 axes"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused_in_one_line(folder, topology, said):
    done = rbs(folder, "--topology", topology)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("rbs: ")
    assert done.stderr.count("\n") == 1


def test_a_mesh_that_does_not_divide_is_refused_in_one_line(folder):
    done = rbs(folder, "--topology", "v5e:4x4", "--mesh.fsdp", "3")
    assert done.returncode == 2
    assert "mesh.fsdp 3 does not divide" in done.stderr
    assert done.stderr.count("\n") == 1


GATHERS = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
import numpy as np
from rbs_jax.plan.compile import _warnings
from rbs_jax.plan.pod import parse_pod

devices = np.array(parse_pod("v5e:2x4").devices()).reshape(2, 4)
mesh = Mesh(devices, ("a", "b"), axis_types=(AxisType.Auto,) * 2)

def placed(*axes):
    return NamedSharding(mesh, P(*axes))

def gathers(table, ids):
    x = table[ids]  # a table split along its width
    return jax.lax.with_sharding_constraint(x, placed("a", None, None))

table = jax.ShapeDtypeStruct((512, 256), jnp.float32, sharding=placed(None, ("a", "b")))
ids = jax.ShapeDtypeStruct((16, 32), jnp.int32, sharding=placed("a"))
assert _warnings() == []
jax.jit(gathers).lower(table, ids).compile()
assert len(_warnings()) >= 1
assert "gather" in _warnings()[0]
"""


def test_an_array_copied_whole_to_every_chip_is_seen(folder):
    """Else no test that there is none could fail."""
    done = subprocess.run(
        [sys.executable, "-c", GATHERS], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "libtpu says nothing itself"


def test_ctrl_c_is_heard_while_the_compiler_works(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "rbs_jax", "plan", "small.py", "--topology", "v5e:4x4"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("compiling for ")
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == "rbs: interrupted; a plan is written whole or not at all\n"
