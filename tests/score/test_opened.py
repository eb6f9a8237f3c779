"""A model by its name, on a mesh that nobody holds."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from rbs_jax import Scorer
from rbs_jax.errors import UserError
from rbs_jax.score.likelihood import Likelihood
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import TrainState
from tests.score.tiny import EXPERIMENT, PROMPTS, RESPONSES, TOKENS, loaded_on


@pytest.fixture
def run(tmp_path):
    loaded = loaded_on((1, 1, 1))
    with (
        jax.set_mesh(loaded.model.head[...].sharding.mesh),
        Checkpoints(tmp_path, keep=1) as checkpoints,
    ):
        none = jnp.zeros((), jnp.int32)
        state = TrainState(loaded.model, {}, none, none)
        checkpoints.save(1, state, {"next_step": 1}, EXPERIMENT, {})
    TOKENS.save(tmp_path)
    return str(tmp_path)


def test_a_name_scores_as_the_loaded_model_on_all_devices(run):
    scorer = Scorer(run)
    assert scorer._mesh.size == 8
    expected = Scorer(loaded_on((1, 1, 1))).score(PROMPTS, RESPONSES)
    for ours, theirs in zip(scorer.score(PROMPTS, RESPONSES), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_a_loaded_model_stays_on_its_mesh(run):
    assert Scorer(loaded_on((2, 2, 2)))._mesh.shape == {"data": 2, "fsdp": 2, "tensor": 2}


def test_another_kind_is_refused_before_it_is_loaded(run, monkeypatch):
    monkeypatch.setattr("rbs_jax.score.opened.load_model", None)
    with pytest.raises(UserError, match="a reward model has no log-probabilities"):
        Likelihood(run)


def test_the_package_offers_the_scorer_and_starts_no_jax():
    code = "import sys, rbs_jax; assert 'jax' not in sys.modules; from rbs_jax import Scorer"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError):
        from rbs_jax import NoSuchThing  # noqa: F401
