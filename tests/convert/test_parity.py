"""Per-layer parity with transformers, so that a failure names the layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.convert.config import read_config
from rbs_jax.convert.weights import filled, head_offset, leaf_paths, read_weights
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.layers import rotation_of
from rbs_jax.model.reward import RewardModel, scores
from tests.convert.families import FAMILIES, saved, torch_model

pytestmark = pytest.mark.torch

CLOSE = {"rtol": 2e-5, "atol": 2e-5}
IDS = np.random.default_rng(0).integers(67, size=(2, 21))


def loaded(folder, kind, mesh):
    described = read_config(folder)
    offset = head_offset(folder, described)
    config = dataclasses.replace(described.config, dtype="float32", head_offset=offset)
    like = shapes_of(kind, config)
    paths = {path for path, _ in leaf_paths(like)}
    return filled(like, read_weights(folder, described, paths, set(), mesh))


def hidden_states(model, tokens):
    """The embeddings and every layer's output, running one layer at a time."""
    tokens_GPST = jnp.array(tokens)[None, :, None]
    x_GPSTD = jax.jit(lambda model: model.trunk.embed("GPST", tokens_GPST))(model)
    states = [x_GPSTD]
    rotation = jax.jit(lambda: _rotation(model.trunk.config, tokens_GPST))()
    none = jnp.zeros(tokens_GPST.shape[:2], jnp.int32)
    run = jax.jit(lambda block, x: block(x, rotation, None, none)[0])
    for layer in range(model.trunk.config.num_layers):
        block = jax.tree.map(lambda w, layer=layer: w[layer], model.trunk.blocks)
        states.append(run(block, states[-1]))
    return [np.asarray(x)[0, :, 0] for x in states]


def _rotation(config, tokens_GPST):
    positions = jnp.broadcast_to(jnp.arange(tokens_GPST.shape[-1]), tokens_GPST.shape)
    return rotation_of(positions, config)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_and_the_logits_are_those_of_transformers(family, tmp_path, mesh):
    import torch

    theirs = torch_model(family)
    ours = loaded(saved(theirs, tmp_path), LanguageModel, mesh)
    with torch.no_grad():
        expected = theirs(torch.tensor(IDS), output_hidden_states=True)
    got = hidden_states(ours, IDS)
    # Their last hidden state is behind the final norm.
    normed = np.asarray(jax.jit(lambda m, x: m.trunk.normed(x))(ours, jnp.array(got[-1])))
    for layer, (a, b) in enumerate(zip([*got[:-1], normed], expected.hidden_states, strict=True)):
        np.testing.assert_allclose(a, b.numpy(), **CLOSE, err_msg=f"after layer {layer}")
    logits = jax.jit(lambda m, x: m.head.logits(m.trunk, x))
    got_logits = logits(ours, jnp.array(got[-1])[None, :, None])
    np.testing.assert_allclose(
        np.asarray(got_logits)[0, :, 0], expected.logits.numpy(), **CLOSE, err_msg="logits"
    )


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_reward_model_scores_as_in_transformers(family, head, tmp_path, mesh):
    import torch

    theirs = torch_model(family, head)
    ours = loaded(saved(theirs, tmp_path), RewardModel, mesh)
    with torch.no_grad():
        logits = theirs(torch.tensor(np.where(IDS == 3, 4, IDS))).logits.numpy()
    expected = logits[:, 0] if head == "SequenceClassification" else logits[:, -1, 0]
    tokens_GPST = jnp.array(np.where(IDS == 3, 4, IDS))[None, :, None]
    lengths_GPS = jnp.full((1, 2, 1), 21)
    got = jax.jit(scores)(ours, tokens_GPST, lengths_GPS)
    np.testing.assert_allclose(np.asarray(got)[0, :, 0], expected, **CLOSE)


def test_several_shards_in_half_precision_are_read_as_they_are(tmp_path, mesh):
    import torch

    theirs = torch_model("qwen2", "SequenceClassification").to(torch.bfloat16)
    folder = saved(theirs, tmp_path, max_shard_size="8KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    ours = loaded(folder, RewardModel, mesh)
    tokens = np.where(IDS == 3, 4, IDS)
    with torch.no_grad():
        wide = type(theirs).from_pretrained(folder, dtype=torch.float32)
        expected = wide(torch.tensor(tokens)).logits[:, 0].numpy()
    got = jax.jit(scores)(ours, jnp.array(tokens)[None, :, None], jnp.full((1, 2, 1), 21))
    np.testing.assert_allclose(np.asarray(got)[0, :, 0], expected, **CLOSE)
