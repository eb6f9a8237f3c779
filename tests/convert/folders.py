"""Hugging Face folders made of random numbers, without torch, as their publishers write them."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from rbs_jax.convert.config import config_json
from rbs_jax.convert.names import tensors
from rbs_jax.convert.weights import leaf_paths
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.sharding import MeshConfig, make_mesh

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
TINY = TransformerConfig(
    vocab_size=300,
    width=16,
    mlp_width=24,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    max_positions=128,
    dtype="float32",
    tied_embeddings=False,
)
KINDS = {
    "CausalLM": LanguageModel,
    "SequenceClassification": RewardModel,
    "TokenClassification": RewardModel,
}


def paths_of(kind, config):
    """Paths of the leaves that a model of this kind has."""
    with jax.set_mesh(make_mesh(MeshConfig())):
        return {path for path, _ in leaf_paths(shapes_of(kind, config))}


def random_tensors(config, head="CausalLM", dtype="float32", seed=0):
    """Their names -> arrays in their layout; a token classifier's head has a bias."""
    chance = np.random.default_rng(seed)
    paths = paths_of(KINDS[head], config)
    arrays = {
        tensor.name: (0.1 * chance.normal(size=tensor.shape(config))).astype(DTYPES[dtype])
        for tensor in tensors(paths, config)
    }
    if head == "TokenClassification":
        arrays["score.bias"] = np.array([0.75], DTYPES[dtype])
    return arrays


def write_tensors(folder, arrays, shards=1):
    """One file, or several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(arrays, folder / "model.safetensors")
        return
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: arrays[name] for name in list(arrays)[shard::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)


def write_index(folder, weight_map):
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_config(folder, config, head="CausalLM", dtype="float32", **changed):
    folder.mkdir(parents=True, exist_ok=True)
    fields = config_json(dataclasses.replace(config, head_offset=0.0), head, dtype, {}) | changed
    (folder / "config.json").write_text(json.dumps(fields))


def write_folder(folder, config=TINY, head="CausalLM", dtype="float32", shards=1, seed=0, **extra):
    """A whole folder without a tokenizer; returns its tensors, `extra` ones among them."""
    arrays = random_tensors(config, head, dtype, seed) | extra
    write_config(folder, config, head, dtype)
    write_tensors(folder, arrays, shards)
    return arrays
