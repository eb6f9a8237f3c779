import dataclasses
import json

import pytest

from rbs_jax import quickstart
from rbs_jax.data.docstrings import package_files
from rbs_jax.data.manifest import read_manifest
from rbs_jax.train.heldout import HeldoutConfig
from rbs_jax.train.metrics import read_metrics


@pytest.fixture
def small(monkeypatch):
    """The same story with less text and a few steps."""
    monkeypatch.setattr(quickstart, "TRAIN", ("optax",))
    monkeypatch.setattr(quickstart, "FAST_TRAIN", ("optax",))
    monkeypatch.setattr(quickstart, "HELD_OUT", {"valid": ("tyro",), "test": ("absl",)})
    whole = quickstart.settings

    def settings(corpora, fast):
        full = whole(corpora, fast)
        return dataclasses.replace(
            full,
            train=dataclasses.replace(full.train, steps=4, log_every=2),
            heldout=HeldoutConfig(candidates=4, grids=3),
        )

    monkeypatch.setattr(quickstart, "settings", settings)


def test_it_tells_the_whole_story_and_again_without_gathering(small, tmp_path, capsys):
    out = tmp_path / "run"
    result = quickstart.quickstart(out, fast=False)
    said = capsys.readouterr().out
    assert "that share 13 words in a row with training" in said
    assert "in_batch pairs" in said
    for name in (
        "result.json",
        "learning_curve.png",
        "metrics.jsonl",
        "corpora/test/manifest.json",
    ):
        assert (out / name).is_file()
        assert str(out / name.split("/")[0]) in said
    assert json.loads((out / "result.json").read_text()) == result
    for name, packages in {"train": ["optax"], "valid": ["tyro"], "test": ["absl"]}.items():
        assert read_manifest(out / "corpora" / name).settings["packages"] == packages
    assert [r["step"] for r in read_metrics(out / "metrics.jsonl")] == [2, 4]
    assert quickstart.quickstart(out, fast=False) == result
    assert f"using the corpora in {out / 'corpora'}" in capsys.readouterr().out


def test_the_first_look_is_the_same_model_for_fewer_steps(tmp_path):
    full, fast = (quickstart.settings(tmp_path, fast) for fast in (False, True))
    assert fast.train.steps < full.train.steps
    assert (fast.model, fast.split, fast.grid, fast.data) == (
        full.model,
        full.split,
        full.grid,
        full.data,
    )


def test_every_package_that_it_reads_is_there_and_in_one_part():
    packages = [*quickstart.TRAIN, *quickstart.HELD_OUT["valid"], *quickstart.HELD_OUT["test"]]
    assert len(set(packages)) == len(packages)
    assert all(package_files(package) for package in packages)
    assert set(quickstart.FAST_TRAIN) <= set(quickstart.TRAIN)
