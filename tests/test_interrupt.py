"""Ctrl-C, for real and at many moments: status 130, one line, nothing half-written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.test_full_disk import TINY

LINE = json.dumps({"text": "some words and some more of them " * 20}) + "\n"
COMMANDS = {
    "prepare": "prepare text.jsonl --tokenizer train:300 --out new",
    "encode": "prepare text.jsonl --tokenizer corpus --out new",
    "train": "train tiny.py --data.train corpus --out new --train.steps 100000",
    "score": "score run scored.jsonl --out scores",
    "quickstart": "quickstart --fast --out new",
}
LEFT = {
    "prepare": "the same command goes on from the last shard",
    "train": "the same command goes on from the last checkpoint",
    "score": "the same command goes on from the last batch of lines",
    "quickstart": "the same command goes on from the last checkpoint",
}

pytestmark = pytest.mark.slow


def start(folder, command, *options):
    """The process of a command, head of a group of its own; what it says goes to files."""
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, *options, "-m", "rbs_jax", *COMMANDS[command].split()],
            cwd=folder,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with text and a corpus for seconds of work, a run and a file to score."""
    folder = tmp_path_factory.mktemp("interrupt")
    (folder / "text.jsonl").write_text(LINE * 40_000)
    (folder / "little.jsonl").write_text(LINE * 50)
    (folder / "scored.jsonl").write_text(
        (json.dumps({"prompt": "some words", "responses": ["some more"] * 8}) + "\n") * 20_000
    )
    (folder / "tiny.py").write_text(TINY)
    prepare = "prepare little.jsonl --tokenizer train:300 --out corpus --block-length 8"
    train = "train tiny.py --data.train corpus --out run"
    for command in (prepare, train):
        subprocess.run(
            [sys.executable, "-m", "rbs_jax", *command.split()],
            cwd=folder,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            capture_output=True,
            check=True,
        )
    return folder


def wait_for(process, is_there):
    deadline = time.monotonic() + 60
    while not is_there():
        assert process.poll() is None, "it ended first"
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.002)


def interrupt(process, folder, command, to=os.killpg):
    """Interrupts it, and checks status and line."""
    assert process.poll() is None
    to(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130, (folder / "stderr").read_text()
    said = (folder / "stderr").read_text().splitlines()
    kept = [line for line in said if not line.startswith("import time:")]
    name = COMMANDS[command].split()[0]
    assert kept == [f"rbs: interrupted; {LEFT[name]}"]
    if name == "prepare":  # what the same command would go on from
        shutil.rmtree(folder / "new.partial", ignore_errors=True)
    if any((folder / "scores.partial").glob("part-*.jsonl")):
        shutil.rmtree(folder / "scores.partial")
    assert not [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize(
    "module",
    ["rbs_jax.errors", "tyro", "jax._src.config", "jax.numpy", "pyarrow.lib", "rbs_jax.prepare"],
)
def test_during_an_import(folder, module):
    process = start(folder, "prepare", "-X", "importtime")
    line = f" {module}\n".encode()
    wait_for(process, lambda: line in (folder / "stderr").read_bytes())
    interrupt(process, folder, "prepare")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("command", "delay"),
    [("prepare", 0.3), ("prepare", 1.5), ("encode", 0.3), ("encode", 0.9), ("encode", 1.4)],
)
def test_while_a_corpus_is_made(folder, command, delay):
    process = start(folder, command, "-X", "importtime")
    wait_for(process, lambda: b" rbs_jax.prepare\n" in (folder / "stderr").read_bytes())
    time.sleep(delay)
    interrupt(process, folder, command)
    assert not (folder / "new").exists()


def test_while_a_run_steps_and_saves(folder):
    for steps in (b"step 1/", b"step 7/", b"step 11/"):
        process = start(folder, "train")
        wait_for(process, lambda steps=steps: steps in (folder / "stdout").read_bytes())
        interrupt(process, folder, "train")
    assert b"resuming at step" in (folder / "stdout").read_bytes()


@pytest.mark.parametrize("there", ["", "part-*.jsonl"])
def test_while_responses_are_scored(folder, there):
    parts = folder / "scores.partial"
    process = start(folder, "score")
    wait_for(process, lambda: any(parts.glob(there)) if there else parts.exists())
    interrupt(process, folder, "score")
    assert not (folder / "scores").exists()


@pytest.mark.parametrize("delay", [0.05, 0.3, 1])
@pytest.mark.parametrize("to", [os.killpg, os.kill], ids=["group", "process"])
def test_while_a_pool_reads_docstrings(folder, delay, to):
    process = start(folder, "quickstart")

    def workers():
        tasks = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(tasks) as file:
            return file.read().split()

    if not os.path.exists("/proc/self/task"):
        pytest.skip("no /proc here to see the pool's processes in")
    wait_for(process, workers)
    time.sleep(delay)
    interrupt(process, folder, "quickstart", to)
    assert not (folder / "new" / "corpora").exists()


def test_an_interrupt_that_a_library_swallows_comes_again(folder):
    script = """
import os, signal, sys, time
import rbs_jax.cli
import rbs_jax.__main__ as program

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def main():
    Swallows()
    time.sleep(20)

rbs_jax.cli.main = main
sys.argv = ["rbs", "prepare"]
program.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130
    assert done.stderr == "rbs: interrupted; the same command goes on from the last shard\n"


def test_the_console_script_is_the_same_program():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="rbs")
    assert script.value == "rbs_jax.__main__:run"
