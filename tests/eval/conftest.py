import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

from rbs_jax.data.tokens import train_tokens
from rbs_jax.eval.best_of_n import best_of_n
from rbs_jax.experiment import Experiment, GridConfig, SplitConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import fresh
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import init_state
from tests.eval.candidates import rows, write
from tests.tiny import made_up_documents

SIZES = TransformerConfig(
    vocab_size=300,
    width=8,
    mlp_width=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=4,
    max_positions=64,
    dtype="float32",
)


def save_run(folder, experiment, noise=0.0):
    """A run of one checkpoint, its weights those of step 0 with noise on them."""
    folder.mkdir()
    train_tokens(made_up_documents(30), 300).save(folder)
    with jax.set_mesh(make_mesh(MeshConfig())), Checkpoints(folder, keep=1) as checkpoints:
        chance = np.random.default_rng(1)
        model = jax.tree.map(
            lambda x: jax.device_put(
                np.asarray(x) + np.float32(noise) * chance.normal(size=x.shape).astype(np.float32),
                x.sharding,
            ),
            fresh(experiment.kind, experiment.seed, experiment.model),
        )
        state = init_state(model, optax.sgd(0.1))
        checkpoints.save(7, state, {"next_step": 7}, experiment, {})
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A language model, and two reward models from it, in runs `language`, `one` and `other`."""
    folder = tmp_path_factory.mktemp("runs")
    small = Experiment(model=SIZES, split=SplitConfig(2, 2), grid=GridConfig(prefixes=2))
    language = save_run(
        folder / "language",
        dataclasses.replace(small, objective=ObjectiveConfig(loss="causal_lm")),
        noise=0.3,
    )
    begun = dataclasses.replace(small, model=dataclasses.replace(SIZES, init=f"{language}@7"))
    assert begun.kind is RewardModel
    save_run(folder / "one", begun, noise=0.3)
    save_run(folder / "other", dataclasses.replace(begun, seed=3), noise=0.3)
    save_run(folder / "alone", small, noise=0.3)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A file of preferences: two subsets, prompts that recur, lists of rejected ones."""
    chance, texts = np.random.default_rng(0), made_up_documents(200)
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = []
    for number in range(24):
        rejected = [texts[3 * number + k][: int(chance.integers(5, 40))] for k in (0, 1)]
        rows.append(
            {
                "id": f"row {number}",
                "prompt": texts[100 + number // 2][:20],
                "chosen": texts[50 + number][: int(chance.integers(5, 40))],
                "rejected": rejected if number % 3 else rejected[0],
                "subset": "ab"[number % 2],
            }
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def candidates(tmp_path_factory):
    return write(tmp_path_factory.mktemp("candidates") / "c.jsonl", rows())


@pytest.fixture(scope="session")
def picked(runs, candidates, tmp_path_factory):
    """What two models pick, by name."""
    out = tmp_path_factory.mktemp("picked")
    for name in ("one", "other"):
        best_of_n(str(runs / name), candidates, str(out / name))
    return out
