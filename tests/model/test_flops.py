import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from rbs_jax.model.flops import (
    GridShape,
    grid_flops,
    keys_seen,
    language_flops,
    layer_flops,
    pair_flops,
)
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel, next_token_log_probs
from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.shapes import TokenBlocks
from tests.losses import loss_and_rewards, loss_and_targets
from tests.model.dots import dot_flops
from tests.optimised import AS_USED
from tests.tiny import TINY, random_batch

SHAPE = GridShape(3, 3, 5, 4)
MODELS = {
    "grouped": TINY,
    "wide heads": dataclasses.replace(TINY, num_kv_heads=4, head_dim=10),
    "one kv head": dataclasses.replace(TINY, num_kv_heads=1, num_layers=3),
    "one layer": dataclasses.replace(TINY, num_layers=1),
    "window": dataclasses.replace(TINY, sliding_window=4),
}


def forward_of(config, shape=SHAPE):
    return grid_flops(config, shape, masked=True).total


def batch_of(shape):
    sizes = {"context": shape.prefix_length, "length": shape.suffix_length}
    return random_batch(0, prefixes=shape.prefixes, **sizes)


@pytest.mark.parametrize("window", [None, 1, 3, 7, 20])
@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 9), (5, 4), (8, 1), (2, 7)])
def test_keys_seen_are_those_of_a_loop(start, length, window):
    seen = 0
    for query in range(start, start + length):
        seen += sum(query - (window or 99) < key <= query for key in range(start + length))
    assert keys_seen(start, length, window) == seen


def test_a_grid_by_hand():
    """2 prefixes of 2 tokens, 3 suffixes of 2; width 2, a head of 2, mlp 3, 2 layers."""
    sizes = {"width": 2, "mlp_width": 3, "num_heads": 1, "num_kv_heads": 1, "head_dim": 2}
    config = dataclasses.replace(TINY, num_layers=2, **sizes)
    square, mlp, key = 2 * 2 * 2, 3 * (2 * 2 * 3), 2 * (2 * 2)
    prefixes = 2 * (2 * (4 * square + mlp) + (1 + 2) * key)
    suffixes = 6 * (2 * (4 * square + mlp) + (3 + 4) * key)
    last_of_prefixes = 2 * 2 * (2 * square)
    last_of_suffixes = 6 * (2 * (2 * square) + 2 * square + mlp + 4 * key)
    flops = grid_flops(config, GridShape(2, 3, 2, 2))
    assert flops.total == prefixes + suffixes + last_of_prefixes + last_of_suffixes + 6 * 2 * 2
    assert flops.head == 6 * 2 * 2
    assert flops.first == (2 * 2 + 6 * 2) * 3 * square
    one = grid_flops(dataclasses.replace(config, num_layers=1), GridShape(2, 3, 2, 2))
    assert one.first == last_of_prefixes + 6 * (2 * (2 * square) + square)
    assert one.layers == 6 * (square + mlp + 4 * key)


@pytest.mark.parametrize("name", MODELS)
def test_a_grid_is_counted_to_the_last_product_that_score_grid_runs(name, mesh):
    config = MODELS[name]
    model, batch = shapes_of(RewardModel, config), batch_of(SHAPE)
    assert dot_flops(score_grid, model, batch.tokens) == forward_of(config)


@pytest.mark.parametrize("name", MODELS)
def test_backward_is_twice_forward_and_the_logits_again(name, mesh):
    """To the last product: gradients reach the embeddings, so those of all inputs are needed.

    The logits, computed again to save memory, are no use; nor is a layer's second forward pass.
    """
    config, (prefixes, suffixes, context, length) = MODELS[name], SHAPE
    model, batch = shapes_of(RewardModel, config), batch_of(SHAPE)

    def loss(model, batch):
        return loss_and_rewards(model, batch, ObjectiveConfig())[0]

    whole = prefixes * context**2 + prefixes * suffixes * length * (context + length)
    last = prefixes * suffixes * (context + length)
    logits = ((config.num_layers - 1) * whole + last) * layer_flops(config).key // 2
    ran = dot_flops(jax.value_and_grad(loss), model, batch)
    assert ran == 3 * forward_of(config) + logits
    again = shapes_of(RewardModel, dataclasses.replace(config, remat="full"))
    assert dot_flops(jax.value_and_grad(loss), again, batch) > ran + 0.5 * forward_of(config)


def test_masked_keys_are_no_use_and_all_else_is_the_same():
    """Of a prefix of 5 the queries see 15 keys of 25; of 5 + 4, 30 of 36; the last sees all 9."""
    layer = layer_flops(TINY)
    masked = (TINY.num_layers - 1) * (3 * (25 - 15) + 9 * (36 - 30)) * layer.key
    computed, seen = (grid_flops(TINY, SHAPE, masked=m) for m in (True, False))
    assert computed.total - seen.total == masked
    assert computed.first == seen.first


def test_to_save_memory_all_is_computed_again_or_attention_alone(mesh):
    def ran(remat):
        model = shapes_of(RewardModel, dataclasses.replace(TINY, num_layers=3, remat=remat))
        loss = jax.grad(partial(loss_and_rewards, config=ObjectiveConfig()), has_aux=True)
        return dot_flops(loss, model, batch_of(SHAPE))

    keys = 2 * (3 * 5 * 5 + 9 * 4 * 9) + 9 * 9  # of two layers, and of what the last one reads
    assert ran("dots") - ran("none") == keys * layer_flops(TINY).key
    assert ran("full") - ran("none") > 0.8 * forward_of(dataclasses.replace(TINY, num_layers=3))


def test_xla_counts_the_same_of_an_unrolled_model(mesh):
    """But for what is no product, here below 4%; of a scan it counts one trip."""
    sizes = {"width": 192, "mlp_width": 512, "num_layers": 4, "head_dim": 48}
    shape, config = GridShape(3, 3, 24, 16), dataclasses.replace(TINY, **sizes)

    def counted(scan):
        model = shapes_of(RewardModel, dataclasses.replace(config, scan_layers=scan))
        compiled = jax.jit(score_grid).lower(model, batch_of(shape).tokens).compile(AS_USED)
        return compiled.cost_analysis()["flops"]

    expected = forward_of(config, shape)
    assert expected <= counted(scan=False) < 1.04 * expected
    assert counted(scan=True) < 0.6 * expected


@pytest.mark.parametrize("name", MODELS)
def test_packed_blocks_are_counted_with_the_vocabulary_head(name, mesh):
    """Both kinds of logits are computed twice, to save memory: once more than is useful."""
    config = MODELS[name]
    model, length = shapes_of(LanguageModel, config), 11
    blocks = TokenBlocks(*(np.zeros((1, 2, length), np.int32) for _ in range(2)))
    forward = language_flops(config, length, masked=True).times(2)
    assert dot_flops(next_token_log_probs, model, blocks) == forward.total
    layers = config.num_layers * layer_flops(config).key
    ran = dot_flops(jax.value_and_grad(loss_and_targets, has_aux=True), model, blocks)
    assert ran == 3 * forward.total + forward.head + 2 * layers * length**2 // 2
    masked = length**2 - keys_seen(0, length, config.sliding_window)
    assert language_flops(config, length).total == forward.total // 2 - layers * masked


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_alone_is_a_whole_text_with_a_head_at_every_position(name):
    config, length = MODELS[name], SHAPE.prefix_length + SHAPE.suffix_length
    text = language_flops(config, length)
    expected = text.total - text.head + length * 2 * config.width
    assert pair_flops(config, SHAPE).total == 9 * expected
