import dataclasses
import json

import pytest

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.train.loop import train
from rbs_jax.train.metrics import read_metrics
from rbs_jax.train.watch import Watch
from tests.train.test_curves import shown


class Measure:
    """Gives a figure that falls from call to call, and remembers what it was asked of."""

    def __init__(self):
        self.asked = []

    def __call__(self, loaded, _mesh):
        self.asked.append(loaded)
        return {"pairs": {"n": 9, "accuracy": 1 - len(self.asked) / 100, "ci95": [0.0, 1.0]}}


@pytest.fixture
def measure():
    return Measure()


def watch(measure, every=4, **suites):
    return Watch(suites or {"pairs": "items"}, every, measure)


def curve(out):
    records = read_metrics(out / "metrics.jsonl")
    return {r["step"]: r["suite_pairs"] for r in records if "suite_pairs" in r}


def test_a_suite_is_measured_before_on_schedule_and_at_the_last_step(experiment, measure, tmp_path):
    result = train(experiment, tmp_path, watch=watch(measure))
    assert curve(tmp_path) == {4: 0.98, 6: 0.97}
    assert result["suites"]["untrained"]["pairs"]["accuracy"] == 0.99
    assert result["suites"]["trained"]["pairs"]["accuracy"] == 0.96
    assert result["chosen_by"] == "last step"
    assert shown(tmp_path / "tensorboard")["suite/pairs"] == pytest.approx({4: 0.98, 6: 0.97})
    assert measure.asked[0].experiment.grid == experiment.grid
    assert measure.asked[0].tokens.vocab_size == 300


def test_the_untrained_figures_of_the_same_suites_are_kept(experiment, measure, tmp_path):
    short = dataclasses.replace(
        experiment, train=dataclasses.replace(experiment.train, steps=2), seed=1
    )
    longer = dataclasses.replace(short, train=dataclasses.replace(experiment.train, steps=4))
    train(short, tmp_path, watch=watch(measure))
    asked = len(measure.asked)
    result = train(longer, tmp_path, watch=watch(measure))
    assert result["suites"]["untrained"]["pairs"]["accuracy"] == 0.99
    assert len(measure.asked) == asked + 2
    trained = result["suites"]["trained"]
    result = train(longer, tmp_path)
    assert result["suites"]["untrained"]["pairs"]["accuracy"] == 0.99, "and where none is followed"
    assert result["suites"]["trained"] == trained
    with pytest.raises(UserError, match="--suites pairs: the run has followed other items of it"):
        train(longer, tmp_path, watch=watch(measure, pairs="others"))


def test_no_benchmark_chooses_the_checkpoint(experiment, corpora, tmp_path):
    selecting = dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, valid=str(corpora / "valid")),
        train=dataclasses.replace(experiment.train, best_every=2),
    )
    alone = train(selecting, tmp_path / "alone")
    best = int(alone["checkpoint"].rpartition("@")[2])

    steps = iter(range(9))  # before the first, after each of six, and of the chosen one

    def against(_loaded, _mesh):
        return {"pairs": {"n": 9, "accuracy": float(next(steps) != best), "ci95": None}}

    watched = train(selecting, tmp_path / "watched", watch=watch(against, every=1))
    assert curve(tmp_path / "watched") == {step: float(step != best) for step in range(1, 7)}
    assert watched["checkpoint"] == f"{tmp_path}/watched@{best}"
    assert watched["chosen_by"] == "valid same_document"


def test_without_suites_nothing_is_measured_or_written(experiment, tmp_path):
    result = train(experiment, tmp_path)
    assert result["suites"] == {"untrained": {}, "trained": {}}
    assert curve(tmp_path) == {}
    assert not (tmp_path / "untrained_suites.json").exists()


def test_a_language_model_has_no_rewards_to_watch(experiment, measure, tmp_path):
    language = dataclasses.replace(experiment, objective=ObjectiveConfig(loss="causal_lm"))
    assert isinstance(language, Experiment)
    with pytest.raises(UserError, match="a language model has no rewards: leave the suites out"):
        train(language, tmp_path / "run", watch=watch(measure))
    assert not measure.asked


def test_figures_of_a_start_that_saved_nothing_are_measured_anew(experiment, measure, tmp_path):
    stale = {"pairs": {"items": "items", "accuracy": 0.0}}
    (tmp_path / "heartbeat.json").write_text("{}")
    (tmp_path / "untrained_suites.json").write_text(json.dumps(stale))
    result = train(experiment, tmp_path, watch=watch(measure))
    assert result["suites"]["untrained"]["pairs"]["accuracy"] == 0.99


def test_measuring_saves_nothing(experiment, measure, tmp_path):
    rarely = dataclasses.replace(experiment.train, checkpoint_every=6, keep=9)
    train(dataclasses.replace(experiment, train=rarely), tmp_path, watch=watch(measure, every=1))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()] == ["6"]
