"""How the processes of a pod end together."""

import shutil
import subprocess
import sys
import time

import pytest

from launch.local_pod import TPU, free_port
from rbs_jax.hosts.failure import HEARTBEAT
from rbs_jax.train.checkpoint import Checkpoints
from tests.processes2.pods import KILL, SOON, STOP, TERM, timeless

LOCAL_POD = TPU.with_name("local_pod.py")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("index", [0, 1])
def test_sigterm_to_one_saves_the_same_step_on_all_and_the_run_goes_on(
    pods, unbroken_by_two, index
):
    out = pods.folder / f"asked-{index}"
    running = pods.start("train", "tiny.py", "--out", out.name, "--train.checkpoint-every", "100")
    running.until("step 5/24")
    running.signal(index, TERM)
    done = running.end(within=SOON)
    assert done.statuses == [75, 75], done.said
    with Checkpoints(out, keep=2) as checkpoints:
        (step,) = checkpoints.steps()
    assert 5 <= step < 24
    for log in done.logs:
        assert f"rbs: asked to leave, saved step {step} in {out.name}; the same command" in log
    done = pods.run("train", "tiny.py", "--out", out.name, "--train.checkpoint-every", "100")
    assert done.status == 0, done.said
    assert f"resuming at step {step}" in done.said
    assert timeless(out) == timeless(unbroken_by_two)


def test_the_error_of_one_is_told_with_its_number_and_ends_all(pods):
    missing = pods.folder / "corpora-of-1"
    shutil.copytree(pods.folder / "corpora", missing)
    for shard in (missing / "train").glob("*.array_record*"):
        shard.unlink()
    began = time.monotonic()
    running = pods.start_each(
        ("train", "tiny.py", "--out", "missing"), [{}, {"CORPORA": str(missing)}]
    )
    done = running.end(within=60)
    assert done.statuses == [2, 2], done.logs
    assert "rbs: process 1 of 2 (" in done.said
    assert str(missing) in done.said
    assert "Traceback" not in done.said
    assert time.monotonic() - began < 60


def cut_arrays_of_process_1(checkpoint):
    for path in checkpoint.glob("*/ocdbt.process_1/d/*"):
        path.write_bytes(path.read_bytes()[:30])


def cut_config(checkpoint):
    (checkpoint / "config" / "metadata").write_text("{")


@pytest.mark.parametrize("damage", [cut_arrays_of_process_1, cut_config])
def test_damage_that_one_process_meets_alone_is_told_to_all(pods, unbroken_by_two, damage):
    out = pods.folder / damage.__name__
    shutil.copytree(unbroken_by_two, out)
    damage(out / "checkpoints" / "24")
    done = pods.start("train", "tiny.py", "--out", out.name).end(within=90)
    assert done.statuses == [0, 0], done.said
    assert "checkpoints/24: this checkpoint cannot be read" in done.said
    assert "resuming at step 20" in done.said
    assert timeless(out) == timeless(unbroken_by_two)


def test_a_mistake_that_all_meet_is_told_once(pods):
    done = pods.run("train", "tiny.py", "--out", "wrong", "--optim.learning-rate", "-1")
    assert done.statuses == [2, 2]
    assert done.said.count("optim.learning_rate") == 1


def test_a_process_that_starts_late_is_waited_for(pods):
    command = ("train", "tiny.py", "--out", "late", "--train.steps", "2")
    done = pods.start_each(command, [{}, {}], late=8).end()
    assert done.statuses == [0, 0], done.said


def test_a_folder_that_not_all_see_is_refused(pods, tmp_path):
    shutil.copy(pods.folder / "tiny.py", tmp_path)
    command = ("train", "tiny.py", "--out", "mine", "--train.steps", "2")
    running = pods.start_each(command, [pods.folder, tmp_path])
    done = running.end(within=60)
    assert done.statuses == [2, 2]
    assert "mine: process 1 does not see what process 0 writes there" in done.said


def test_a_process_that_makes_no_sound_ends_the_others_by_their_heartbeat(pods):
    running = pods.start("train", "tiny.py", "--out", "frozen", "--train.steps", "10000")
    running.until("step 6/")
    running.signal(1, STOP)
    began = time.monotonic()
    running.processes[0].wait(HEARTBEAT + SOON)
    assert time.monotonic() - began > HEARTBEAT / 2
    assert running.processes[0].returncode not in (0, 2)
    running.signal(1, KILL)
    running.end()


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_meets_no_other_says_so(pods, index):
    options = f"--coordinator 127.0.0.1:{free_port()} --processes 2 --process {index} --late 5"
    done = subprocess.run(
        [sys.executable, TPU, *options.split(), "train", "tiny.py"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert f"rbs: process {index} of 2 on " in done.stderr
    assert "the processes did not meet within 5 seconds" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_sigterm_to_the_program_that_started_a_pod_ends_all_of_it(pods):
    command = ("--logs", "logs-of-all", "train", "tiny.py", "--out", "all", "--train.steps", "2000")
    pod = subprocess.Popen([sys.executable, str(LOCAL_POD), *command], cwd=pods.folder)
    log = pods.folder / "logs-of-all" / "process-0.log"
    try:
        while not (log.is_file() and "step 3/" in log.read_text()):
            assert pod.poll() is None
            time.sleep(0.1)
    finally:
        pod.terminate()
    assert pod.wait(60) == 75
    assert "asked to leave, saved step" in log.read_text()


def test_hosts_that_run_other_settings_or_other_text_are_refused(pods):
    config = (pods.folder / "tiny.py").read_text()
    rate = config.replace("learning_rate=1e-2", "learning_rate=float(os.environ['RATE'])")
    (pods.folder / "rate.py").write_text(rate)
    command = ("train", "rate.py", "--out", "rate")
    done = pods.start_each(command, [{"RATE": "1e-2"}, {"RATE": "5e-2"}]).end(within=90)
    assert done.statuses == [2, 2]
    changed = "optim.learning_rate: 0.01 -> 0.05"
    assert f"process 1 has other settings than process 0 ({changed}): give" in done.said


def test_a_log_that_cannot_be_written_is_a_mistake_and_ends_all(pods):
    (pods.folder / "no-logs").write_text("")
    command = ("--logs", "no-logs", "score", "x", "x", "--out", "x")
    pod = [sys.executable, str(LOCAL_POD), *command]
    done = subprocess.run(
        pod, check=False, cwd=pods.folder, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 2
    assert "no-logs: cannot make this folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_a_command_that_has_nothing_to_save(pods, unbroken):
    (pods.folder / "many.jsonl").write_text('{"prompt": "a", "responses": ["b"]}\n' * 10**5)
    running = pods.start("score", "unbroken", "many.jsonl", "--out", "scores.jsonl")
    running.until("process 0 of 2")
    time.sleep(5)
    running.signal(0, TERM)
    assert all(status != 0 for status in running.end(within=SOON).statuses)


def test_commands_for_one_run_in_process_0_alone(pods):
    done = pods.run("inspect", "corpora/train")
    assert done.statuses == [0, 0]
    assert "blocks" in done.said
    assert "runs in process 0 alone" in done.logs[1]
    assert "blocks" not in done.logs[1]
