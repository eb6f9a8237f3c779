"""A file system that refuses to write, for real: a limit on file sizes, and a full small disk."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from rbs_jax.score.files import LINES

TINY = """
from rbs_jax.experiment import Experiment, GridConfig, SplitConfig, TrainConfig
from rbs_jax.model.config import TransformerConfig

experiment = Experiment(
    split=SplitConfig(2, 2),
    grid=GridConfig(prefixes=2),
    model=TransformerConfig(
        vocab_size=300, width=32, mlp_width=32, num_layers=1, num_heads=1, num_kv_heads=1,
        head_dim=4,
    ),
    train=TrainConfig(steps=6, log_every=1, checkpoint_every=2),
)
"""
pytestmark = pytest.mark.slow

SCORED = json.dumps({"prompt": "some words", "responses": ["some more"], "note": "n" * 900})


LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


def rbs(folder, *args, limit=None):
    """Runs a command line in `folder`; no file may grow beyond `limit` [bytes]."""
    program = [sys.executable, "-m", "rbs_jax", *args]
    if limit is not None:  # set by the process itself: this one has started jax, and must not fork
        program = [sys.executable, "-c", LIMITED, str(limit), *program]
    return subprocess.run(
        program,
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def refused(done, name, cause):
    assert done.returncode == 2, done.stderr
    *others, line = done.stderr.splitlines()
    assert all("shapes compiled" in other for other in others)
    assert line.startswith(f"rbs: {name}")
    assert f": cannot be written: {cause}" in line


def prepare(out):
    return "prepare", "good.jsonl", "--tokenizer", "train:300", "--out", out, "--block-length", "4"


def train(out):
    return "train", "tiny.py", "--data.train", "corpus", "--out", out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text, a corpus, a finished run and a file to score."""
    folder = tmp_path_factory.mktemp("disk")
    text = "".join(f'{{"text": "some words and some more, {n}"}}\n' for n in range(100))
    (folder / "good.jsonl").write_text(text)
    (folder / "scored.jsonl").write_text((SCORED + "\n") * 500)
    (folder / "tiny.py").write_text(TINY)
    assert rbs(folder, *prepare("corpus")).returncode == 0
    assert rbs(folder, *train("run")).returncode == 0
    return folder


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """Mounts a disk of a given size [KiB], and takes it down again."""
    point = tmp_path_factory.mktemp("small")

    def mount(size):
        said = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(point)],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {said.stderr.strip()}")
        return point

    if shutil.which("mount") is None:
        pytest.skip("a small disk cannot be mounted here: no mount command")
    yield mount
    subprocess.run(["umount", "--all-targets", str(point)], check=False, capture_output=True)


@pytest.mark.parametrize("limit", [0, 2000, 8000])
def test_prepare_leaves_nothing(folder, limit):
    refused(rbs(folder, *prepare("other"), limit=limit), "other", "")
    assert not list(folder.glob("*other*"))
    assert not list(folder.glob(".other*"))


def test_score_leaves_nothing(folder):
    score = rbs(folder, "score", "run", "scored.jsonl", "--out", "scores", limit=100_000)
    refused(score, "scores", "File too large")
    assert not list(folder.glob("scores*"))


def test_score_goes_on_where_there_is_room_again(folder):
    (folder / "long.jsonl").write_text((SCORED + "\n") * (LINES + 500))
    command = "score", "run", "long.jsonl", "--out", "going"
    done = rbs(folder, *command, limit=(LINES + 100) * len(SCORED))  # of a part, not of all
    refused(done, "going", "File too large; what is done stays in going.partial, the same")
    done = rbs(folder, *command)
    assert json.loads(done.stdout)["scored_before"] == LINES + 500, done.stderr
    assert (folder / "going").read_text().count("\n") == LINES + 500
    assert not (folder / "going.partial").exists()


@pytest.mark.parametrize("form", ["hf", "orbax"])
def test_export_leaves_nothing(folder, form):
    done = rbs(folder, "export", "run", "out/served", "--format", form, limit=5000)
    refused(done, "out/served", "File too large")
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize("limit", [1000, 20_000])
def test_a_run_goes_on_where_there_is_room_again(folder, limit):
    out = f"run-{limit}"
    refused(rbs(folder, *train(out), limit=limit), out, "File too large")
    done = rbs(folder, *train(out))
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / out / "result.json").read_text())["checkpoint"] == f"{out}@6"


def test_a_full_metrics_file_is_named(folder):
    shutil.copytree(folder / "run", folder / "long")
    metrics = folder / "long" / "metrics.jsonl"
    steps = "--train.steps=5000", "--train.checkpoint-every=5000", "--optim.schedule=constant"
    shutil.rmtree(folder / "long")
    said = rbs(folder, *train("long"), *steps, limit=300_000)
    refused(said, "long/metrics.jsonl", "File too large")
    assert metrics.stat().st_size == 300_000


@pytest.mark.parametrize("size", [700])
def test_a_run_goes_on_after_a_full_disk(folder, small_disk, size):
    disk = small_disk(size)
    said = rbs(folder, *train(str(disk / "run")))
    refused(said, str(disk / "run"), "No space left on device")
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
    done = rbs(folder, *train(str(disk / "run")))
    assert done.returncode == 0, done.stderr
    assert (disk / "run" / "result.json").is_file()
    subprocess.run(["umount", str(disk)], check=True)


def test_prepare_and_score_leave_nothing_on_a_full_disk(folder, small_disk):
    disk = small_disk(40)
    refused(rbs(folder, *prepare(str(disk / "corpus"))), str(disk / "corpus"), "")
    scores = str(disk / "scores")
    done = rbs(folder, "score", "run", "scored.jsonl", "--out", scores)
    refused(done, scores, "No space left on device")
    assert not list(disk.iterdir())
    subprocess.run(["umount", str(disk)], check=True)
