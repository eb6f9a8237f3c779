"""However many processes run it, and however often they are killed, it is the same run."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from launch.local_pod import free_port
from tests.processes2.batches import STEPS, stream
from tests.processes2.pods import KILL, LONG, SOON, timeless

pytestmark = pytest.mark.slow


def assert_same(out, unbroken):
    """Other meshes add in another order: figures agree to rounding, which training then widens."""
    ours, theirs = timeless(out), timeless(unbroken)
    assert [record["step"] for record in ours] == [record["step"] for record in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4), mine["step"]
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-2), mine["step"]
        if mine["step"] <= 5:
            assert mine == pytest.approx(other, rel=1e-5, abs=1e-6), mine["step"]
    mine, other = (
        json.loads((folder / "result.json").read_text())["test"] for folder in (out, unbroken)
    )
    assert mine["in_batch"]["n"] == other["in_batch"]["n"] > 0
    for measure, figure in mine.items():
        of_a_pair = 0.5 / figure["n"]
        theirs = other[measure]["pair_accuracy"]
        assert figure["pair_accuracy"] == pytest.approx(theirs, abs=of_a_pair), measure


def test_two_processes_that_share_every_grid_have_the_losses_of_one(unbroken, unbroken_by_two):
    assert_same(unbroken_by_two, unbroken)


@pytest.mark.parametrize(
    ("processes", "mesh"),
    [
        (2, ("--mesh.data", "4")),  # each host has grids of its own
        (4, ("--mesh.data", "2")),
    ],
)
def test_several_processes_have_the_losses_of_one(pods, unbroken, processes, mesh):
    out = f"unbroken-by-{processes}-on-{mesh[-1]}"
    done = pods.run("train", "tiny.py", "--out", out, *mesh, processes=processes)
    assert done.statuses == [0] * processes, done.said
    assert_same(pods.folder / out, unbroken)
    assert "step 24/24" in done.said


def test_every_process_has_its_log_and_process_0_alone_writes(pods):
    done = pods.run("train", "tiny.py", "--out", "logs-of-two", "--train.steps", "2")
    assert done.statuses == [0, 0]
    for index, log in enumerate(done.logs):
        assert f"process {index} of 2 on " in log
        assert "rbs train tiny.py" in log
    steps = [record["step"] for record in timeless(pods.folder / "logs-of-two")]
    assert steps == [1, 2]


@pytest.mark.parametrize(("processes", "data", "fsdp"), [(2, 1, 4), (2, 4, 1), (4, 2, 2)])
def test_the_devices_of_all_processes_hold_the_batches_of_one_bit_for_bit(
    pods, processes, data, fsdp
):
    out, address = f"batches-{processes}-{data}.npz", f"127.0.0.1:{free_port()}"
    start = [sys.executable, "-m", "tests.processes2.batches", address, processes]
    running = [
        subprocess.Popen([str(arg) for arg in (*start, index, data, fsdp, out)])
        for index in range(processes)
    ]
    assert [process.wait(LONG) for process in running] == [0] * processes
    found = np.load(out)
    for step in STEPS:
        for number, leaf in enumerate(jax.tree.leaves(stream().batch(step))):
            np.testing.assert_array_equal(found[f"{step}-{number}"], leaf)


@pytest.fixture(scope="module")
def killed(pods):
    """A run of two processes, of which one was killed between two checkpoints."""
    running = pods.start("train", "tiny.py", "--out", "killed")
    running.until("step 14/24")
    running.signal(1, KILL)
    done = running.end(within=SOON)
    assert done.statuses[1] == -KILL
    assert done.statuses[0] not in (0, 2), "a supervisor would not start it again"
    assert "rbs: lost another process, or the network to it" in done.said
    return pods.folder / "killed"


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_killed_run_goes_on_with_another_number_of_processes(pods, unbroken, killed, processes):
    out = pods.folder / f"resumed-by-{processes}"
    shutil.copytree(killed, out)
    done = pods.run("train", "tiny.py", "--out", out.name, processes=processes)
    assert done.status == 0, done.said
    assert "resuming at step 1" in done.said  # 8 or 12: whatever was whole
    assert_same(out, unbroken)


def test_when_process_0_is_killed_the_others_end_too(pods):
    running = pods.start("train", "tiny.py", "--out", "headless")
    running.until("step 6/24")
    running.signal(0, KILL)
    done = running.end(within=SOON)
    assert done.statuses[1] not in (0, 2)
