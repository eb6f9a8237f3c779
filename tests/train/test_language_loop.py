"""A language model trained end to end on packed blocks."""

import dataclasses
import json

import numpy as np
import pytest

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.template import TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, TrainConfig
from rbs_jax.model.kinds import fresh
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.heldout import Heldout
from rbs_jax.train.loop import train
from rbs_jax.train.metrics import TIME_FIELDS, read_metrics

LANGUAGE = ObjectiveConfig("causal_lm")


@pytest.fixture
def language(experiment):
    return dataclasses.replace(experiment, objective=LANGUAGE)


def with_steps(experiment, steps):
    return dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=steps))


def timeless(path):
    return [
        {name: value for name, value in record.items() if name not in TIME_FIELDS}
        for record in read_metrics(path / "metrics.jsonl")
    ]


def unigram_loss(corpus):
    """The cross-entropy of a corpus's ids under their own frequencies [nats]."""
    counts = np.bincount(corpus.read(range(len(corpus))).tokens.ravel())
    shares = counts[counts > 0] / counts.sum()
    return -(shares * np.log(shares)).sum()


def test_the_loss_falls_below_that_of_frequencies_and_the_result_has_likelihood_figures(
    language, corpora, tmp_path, mesh
):
    """One grid a step, as by default."""
    experiment = dataclasses.replace(
        language,
        grid=GridConfig(prefixes=16),
        model=dataclasses.replace(language.model, init_scale=0.1, tied_embeddings=False),
        optim=OptimConfig(learning_rate=2e-2, warmup_steps=2),
        train=TrainConfig(steps=120, log_every=1, checkpoint_every=1000),
    )
    result = train(experiment, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    test = Corpus(corpora / "test")
    assert records[0]["loss"] == pytest.approx(np.log(300), rel=0.05)
    assert np.mean([record["loss"] for record in records[-20:]]) < unigram_loss(test) - 1
    heldout = Heldout(test, experiment.split, experiment.heldout, experiment.seed)
    start = fresh(LanguageModel, experiment.seed, experiment.model)
    assert result["untrained"] == heldout.figures(start, mesh)
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        assert result["test"] == heldout.figures(checkpoints.restore_model(120, start), mesh)
        assert checkpoints.metrics(120)["reward_mean"] > -unigram_loss(test)
    assert result["test"] != result["untrained"]
    assert set(result["controls"]) == {"word_overlap", "longer_suffix", "end_position"}


def test_metrics_tell_targets_and_speed_and_no_figures_of_pairs(language, tmp_path):
    train(with_steps(language, 2), tmp_path)
    for record in read_metrics(tmp_path / "metrics.jsonl"):
        assert 0 < record["targets"] <= 2 * 4 * 15
        assert record["tokens_per_second"] == record["unique_tokens_per_second"] > 0
        assert record["pairs_per_second"] == 0
        assert not {"pair_accuracy", "top1", "causal_lm", "bradley_terry"} & set(record)


def test_going_on_after_fewer_steps_equals_an_unbroken_run(language, tmp_path):
    whole = train(language, tmp_path / "unbroken")
    train(with_steps(language, 3), tmp_path / "broken")
    again = train(language, tmp_path / "broken")
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "unbroken")
    assert len(timeless(tmp_path / "broken")) == 6
    assert (again["test"], again["untrained"]) == (whole["test"], whole["untrained"])


def test_another_mesh_may_take_over(language, tmp_path):
    train(language, tmp_path / "unbroken")
    train(with_steps(language, 3), tmp_path / "moved")
    mesh = dataclasses.replace(language.mesh, data=2, fsdp=2, tensor=2)
    train(dataclasses.replace(language, mesh=mesh), tmp_path / "moved")
    for ours, theirs in zip(
        *map(timeless, (tmp_path / "moved", tmp_path / "unbroken")), strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_a_run_of_language_is_no_run_of_rewards(language, experiment, tmp_path):
    train(with_steps(language, 1), tmp_path)
    with pytest.raises(UserError, match=r"objective\.loss: causal_lm -> bradley_terry"):
        train(experiment, tmp_path)


def test_blocks_beyond_the_context_are_refused(language, tmp_path):
    short = dataclasses.replace(
        language,
        split=SplitConfig(prefix_length=4, suffix_length=4),
        model=dataclasses.replace(language.model, max_positions=15),
    )
    with pytest.raises(UserError, match=r"a block of 16 tokens exceed model\.max_positions 15"):
        train(short, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_loss_says_which_kind_of_model_is_trained():
    assert Experiment(objective=LANGUAGE).kind is LanguageModel
    for loss in ("bradley_terry", "infonce"):
        assert Experiment(objective=ObjectiveConfig(loss)).kind is RewardModel


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"optim": OptimConfig(prefixes_per_update=4)}, "optim.prefixes_per_update"),
        ({"optim": OptimConfig(freeze="trunk")}, "optim.freeze trunk"),
        ({"template": TemplateConfig("human_assistant")}, "template.form"),
        ({"grid": GridConfig(same_document="seek")}, "grid.same_document seek"),
        ({"grid": GridConfig(permute_positives=True)}, "grid.permute_positives"),
        ({"grid": GridConfig(negatives_per_prefix=3)}, "grid.negatives_per_prefix"),
    ],
)
def test_settings_of_pairs_mean_nothing_to_the_language_loss_and_are_refused(setting, named):
    Experiment(**setting)
    with pytest.raises(UserError, match=f"{named} means nothing to objective.loss causal_lm"):
        Experiment(objective=LANGUAGE, **setting)
