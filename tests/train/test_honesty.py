"""What must not be learnt is not learnt."""

import dataclasses

import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.tokens import train_tokens
from rbs_jax.experiment import DataConfig
from rbs_jax.train.loop import train

TOPICS = 24


def documents(count, seed):
    """Texts that each keep to one topic's words, so that a suffix tells its prefix's topic."""
    chance = np.random.default_rng(seed)
    letters = [chr(ord("a") + topic) for topic in range(TOPICS)]
    return [
        " ".join(letter * int(n) for n in chance.integers(1, 4, size=40))
        for letter in chance.choice(letters, size=count)
    ]


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topics")
    texts = documents(300, 0)
    tokens = train_tokens(texts, 280)
    write_corpus(texts, folder / "train", tokens, 16, {})
    write_corpus(documents(100, 1), folder / "test", tokens, 16, {})
    return DataConfig(train=(str(folder / "train"),), test=str(folder / "test"))


def in_batch(experiment, topics, out, seed, permuted):
    """The figure of a short run."""
    result = train(
        dataclasses.replace(
            experiment,
            data=topics,
            grid=dataclasses.replace(experiment.grid, grids_per_step=8, permute_positives=permuted),
            train=dataclasses.replace(
                experiment.train, steps=80, log_every=80, checkpoint_every=80
            ),
            heldout=dataclasses.replace(experiment.heldout, grids=64),
            seed=seed,
        ),
        out,
    )
    return result["test"]["in_batch"]


@pytest.mark.slow
def test_true_positives_are_learnt(experiment, topics, tmp_path):
    figure = in_batch(experiment, topics, tmp_path / "run", 0, permuted=False)
    assert figure["ci95"][0] > 0.6, figure


@pytest.mark.slow
def test_permuted_positives_leave_the_models_at_chance(experiment, topics, tmp_path):
    """On average: one model that learnt nothing still has a taste for repetition, or against it.

    That is one random number for all its pairs, which no number of pairs averages out.
    """
    figures = [
        in_batch(experiment, topics, tmp_path / f"{seed}", seed, permuted=True) for seed in range(4)
    ]
    assert abs(np.mean([figure["pair_accuracy"] for figure in figures]) - 0.5) < 0.05, figures
    for figure in figures:
        low, high = figure["ci95"]
        assert high - low < 0.1, "the interval is too wide to show anything"
