import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Regex, normalizers, pre_tokenizers

from rbs_jax.data.template import TemplateConfig
from rbs_jax.data.tokens import Tokens, train_tokens
from rbs_jax.experiment import Experiment
from rbs_jax.model.config import RopeScaling, TransformerConfig
from rbs_jax.model.kinds import fresh
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import TrainState
from tests.tiny import made_up_documents

CONFIG = TransformerConfig(
    vocab_size=310,
    width=24,
    mlp_width=20,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=10,
    max_positions=512,
    dtype="float32",
)
SCALING = RopeScaling(factor=4.0, original_positions=16)
FAMILIES = {
    "Llama": {"rope_scaling": SCALING},
    "Qwen2": {"qkv_bias": True, "tied_embeddings": False},
    "Qwen3": {"qk_norm": True, "sliding_window": 7},
    "Mistral": {"sliding_window": 9, "tied_embeddings": False},
}
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tokens():
    """A small tokenizer with a chat template whose beginning-of-text is a token of its own."""
    made = train_tokens(made_up_documents(50), 300)
    # Whatever tokenizer.json says, transformers 5 cuts words so under every Qwen2 model.
    made._tokenizer.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, bytes_])
    bos = next(iter(made._tokenizer.get_vocab()))
    return Tokens(made._tokenizer, made.end, {**made.special_tokens, "bos_token": bos}, CHAT)


@pytest.fixture
def run(tmp_path, tokens):
    """Makes a run's folder with one checkpoint of noisy weights; returns it and its model."""

    def make(family="Llama", form="plain", close=True, loss="bradley_terry", **changed):
        config = dataclasses.replace(CONFIG, **FAMILIES[family], **changed)
        experiment = Experiment(
            model=config,
            template=TemplateConfig(form, close),
            objective=ObjectiveConfig(loss=loss),
        )
        folder = tmp_path / "run"
        with jax.set_mesh(make_mesh(MeshConfig())), Checkpoints(folder, keep=1) as checkpoints:
            model = noisy(fresh(experiment.kind, 0, config))
            none = jnp.zeros((), jnp.int32)
            measured = {"same_document": 0.625, "reward_mean": -0.125, "reward_std": 0.5}
            data = {"next_step": 7, "fingerprint": "abc123"}
            checkpoints.save(7, TrainState(model, {}, none, none), data, experiment, measured)
        tokens.save(folder)
        return folder, jax.device_get(model)

    return make


def noisy(model):
    """Every weight away from its default, and scores of order 1."""
    chance = np.random.default_rng(0)

    def add(x):
        drawn = 0.3 * chance.normal(size=x.shape).astype(np.float32)
        return jax.device_put(np.asarray(x) + drawn, x.sharding)

    return jax.tree.map(add, model)
