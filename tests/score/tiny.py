"""Tiny models of either kind that score, and what is scored by them."""

import dataclasses

import jax

from rbs_jax.data.tokens import train_tokens
from rbs_jax.experiment import Experiment
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.models import LoadedModel
from tests.model.noise import noisy
from tests.tiny import TINY, made_up_documents

CONFIG = dataclasses.replace(TINY, vocab_size=300, max_positions=24)
EXPERIMENT = Experiment(
    model=CONFIG, split=dataclasses.replace(Experiment().split, prefix_length=8, suffix_length=8)
)
TOKENS = train_tokens(made_up_documents(50), 300)
PROMPTS = ["abc def ghi", "", "a", "hij abc"]
RESPONSES = [[" one", " two words", ""], ["x", "xyz"], [], ["same", "same", "same but longer"]]


def loaded_on(shape, kind=RewardModel, tokens=TOKENS, **changed):
    """A loaded model with noise on every weight, so that scores differ by more than rounding."""
    mesh = make_mesh(MeshConfig(*shape))
    config = dataclasses.replace(CONFIG, **changed)
    loss = "bradley_terry" if kind is RewardModel else "causal_lm"
    experiment = dataclasses.replace(EXPERIMENT, model=config, objective=ObjectiveConfig(loss=loss))
    with jax.set_mesh(mesh):
        return LoadedModel(noisy(kind, config), experiment, tokens)


def scorer_on(shape=(1, 1, 1), template=None, **given):
    """A scorer of such a model."""
    return Scorer(loaded_on(shape, **given), template=template)
