"""The benchmarks run, compute the same thing on all sides, and print what they promise."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rbs_jax.model.config import TransformerConfig

ROOT = Path(__file__).parents[1]
RATIOS = {"flop_ratio", "flop_ratio_pruned", "time_ratio", "time_ratio_of_rounds"}
FIGURES = RATIOS | {"pairs_per_second", "tokens", "memory_bytes", "of_matmul", "loss", "gradient"}


def run(script, *flags):
    """What a script prints at its end."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *flags]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def step(*programs):
    """Figures of a tiny step in float32."""
    flags = ["--shape", "3,9,5", "--dtype", "float32", "--rounds", "1"]
    return run("step.py", *flags, "--programs", *programs)["results"]["float32"]["3,9,5"]


@pytest.mark.slow
def test_sharing_changes_no_loss_or_gradient():
    said = step("ours", "unshared")["programs"]
    assert said["ours"].keys() >= FIGURES
    assert said["unshared"].keys() >= FIGURES
    assert said["unshared"]["loss"] == pytest.approx(said["ours"]["loss"], rel=1e-5)
    assert said["unshared"]["gradient"] == pytest.approx(said["ours"]["gradient"], rel=1e-4)
    assert said["ours"]["tokens"] == 3 * 9 + 9 * 5
    assert said["unshared"]["tokens"] == 9 * 14
    assert said["ours"]["time_ratio"] == said["ours"]["flop_ratio"] == 1


@pytest.mark.torch
def test_the_alternatives_in_torch_have_the_same_loss():
    said = step("ours", "trl", "released")
    programs = said["programs"]
    if importlib.util.find_spec("trl") is None:
        assert said["absent"].keys() == {"trl"}
        assert said["absent"]["trl"].endswith(" is not installed")
        programs["trl"] = programs["released"]
    for name in ("trl", "released"):
        assert programs[name].keys() >= FIGURES
        assert programs[name]["loss"] == pytest.approx(programs["ours"]["loss"], rel=1e-5)
        assert programs[name]["tokens"] == 2 * 3 * 2 * 14


@pytest.mark.torch
def test_both_scorers_agree():
    flags = ["--n", "3", "--prompt", "17", "--response", "5", "--prompts", "2", "--rounds", "1"]
    said = run("score.py", *flags, "--dtype", "float32")["results"]["float32"]
    assert said["largest_difference"] < 1e-4 * said["standard_deviation"]
    assert said.keys() >= {"flop_ratio", "time_ratio", "bon_time_ratio", "flops_per_second"}
    assert set(said["responses_per_second"]) == {"ours", "rbs bon", "transformers"}


@pytest.fixture
def task(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("step_task")


def test_flops_are_those_of_the_products(task):
    sizes = {"width": 6, "mlp_width": 10, "num_heads": 4, "num_kv_heads": 2, "head_dim": 4}
    model = TransformerConfig(num_layers=2, **sizes)
    projections = 6 * 16 + 2 * (6 * 8) + 16 * 6  # query, keys and values, out
    per_token = 2 * (projections + 3 * 6 * 10)
    own = 1 + 2 + 3 + 4 + 5
    layer = 5 * per_token + 2 * 2 * 16 * (own + 5 * 7)
    assert task.forward_flops(model, 3, 5, before=7) == 3 * 2 * layer
    only_keys = 5 * 2 * 2 * 48
    assert task.forward_flops(model, 3, 5, before=7, last="keys") == 3 * (layer + only_keys)
    at_the_last = only_keys + 2 * (2 * 96 + 180) + 2 * 2 * 16 * (5 + 7)
    assert task.forward_flops(model, 3, 5, before=7, last="read") == 3 * (layer + at_the_last)


@pytest.mark.slow
def test_data_is_prepared_read_and_watched():
    flags = ["--megabytes", "0.2", "--block-length", "32", "--processes", "2", "--rounds", "1"]
    said = run("data.py", *flags, "--steps", "4", "--memory", "0.05")["results"]
    preparing, sides = said["preparing"], said["preparing"]["sides"]
    assert preparing["text_megabytes"] == pytest.approx(0.2, rel=0.2)
    of_one_side = ("datasets", "transformers")
    needs = [name for name in of_one_side if importlib.util.find_spec(name) is None]
    if needs:
        assert preparing["absent"] == {"datasets": f"{needs[0]} is not installed"}
        assert sides.keys() == {"ours", "tokenizer"}
    else:  # and its tokens are as many, or the script fails
        assert preparing["datasets_over_ours"].keys() >= {"time_ratio", "work_ratio"}
        assert 0 <= preparing["blocks"]["ours"] - preparing["blocks"]["datasets"] < 5
    assert preparing["tokens"] // 32 - preparing["blocks"]["ours"] < 2
    assert all(side["peak_megabytes"] > 50 for side in sides.values())
    assert said["reading"]["over_whole_pod"] > 1
    for peaks in said["memory"].values():
        assert peaks["peak_bytes"]["0.05"] > 5e7
        assert peaks["ratio"] == 1
