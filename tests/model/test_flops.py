import dataclasses

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
from rbs_jax.train.step import loss_and_rewards, loss_and_targets
from tests.model.dots import dot_flops
from tests.tiny import TINY, random_batch

SHAPE = GridShape(3, 3, 5, 4)
MODELS = {
    "grouped": TINY,
    "wide heads": dataclasses.replace(TINY, num_kv_heads=4, head_dim=10),
    "one kv head": dataclasses.replace(TINY, num_kv_heads=1, num_layers=3),
    "one layer": dataclasses.replace(TINY, num_layers=1),
    "window": dataclasses.replace(TINY, sliding_window=4),
}
LAST_LAYER_IS_PRUNED = False
"""Whether score_grid runs of its last layer only what is read. Once it does, this is True, and
`unread` and what asks for it can go."""


def unread(config, shape, prefixes=True):
    """What score_grid runs of its last layer that nothing reads, with masked keys."""
    if LAST_LAYER_IS_PRUNED:
        return 0
    layer, pairs = layer_flops(config), shape.prefixes * shape.suffixes
    context, others = shape.prefix_length, shape.suffix_length - 1
    positions = pairs * others + prefixes * shape.prefixes * context
    keys = pairs * others * (context + shape.suffix_length)
    keys += prefixes * shape.prefixes * context**2
    return positions * (layer.query + layer.output) + keys * layer.key


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


@pytest.mark.parametrize("name", MODELS)
def test_a_grid_is_counted_to_the_last_product_that_score_grid_runs(name, mesh):
    config = MODELS[name]
    model, batch = shapes_of(RewardModel, config), batch_of(SHAPE)
    expected = grid_flops(config, SHAPE, masked=True).total + unread(config, SHAPE)
    assert dot_flops(score_grid, model, batch.tokens) == expected


@pytest.mark.parametrize("name", MODELS)
def test_backward_is_twice_forward(name, mesh):
    """To the last product: gradients reach the embeddings, so those of all inputs are needed."""
    config = MODELS[name]
    model, batch = shapes_of(RewardModel, config), batch_of(SHAPE)

    def loss(model, batch):
        return loss_and_rewards(model, batch, ObjectiveConfig())[0]

    forward = grid_flops(config, SHAPE, masked=True).total + unread(config, SHAPE)
    assert dot_flops(jax.value_and_grad(loss), model, batch) == 3 * forward
    again = shapes_of(RewardModel, dataclasses.replace(config, remat="full"))
    assert dot_flops(jax.value_and_grad(loss), again, batch) > 3.5 * forward


def test_masked_keys_are_no_use_and_all_else_is_the_same():
    """Of a prefix of 5 the queries see 15 keys of 25; of 5 + 4, 30 of 36; the last sees all 9."""
    layer = layer_flops(TINY)
    masked = (TINY.num_layers - 1) * (3 * (25 - 15) + 9 * (36 - 30)) * layer.key
    computed, seen = (grid_flops(TINY, SHAPE, masked=m) for m in (True, False))
    assert computed.total - seen.total == masked
    assert computed.first == seen.first


def test_xla_counts_the_same_of_an_unrolled_model(mesh):
    """But for what is no product, here below 3%; of a scan it counts one trip."""
    sizes = {"width": 96, "mlp_width": 320, "num_layers": 3, "head_dim": 32}
    shape, config = GridShape(3, 3, 24, 16), dataclasses.replace(TINY, **sizes)

    def counted(unroll):
        model = shapes_of(RewardModel, dataclasses.replace(config, scan_unroll=unroll))
        compiled = jax.jit(score_grid).lower(model, batch_of(shape).tokens).compile()
        return compiled.cost_analysis()["flops"]

    # XLA sees by itself that nothing reads the prefixes at the last layer.
    expected = grid_flops(config, shape, masked=True).total
    expected += unread(config, shape, prefixes=False)
    assert expected <= counted(unroll=3) < 1.03 * expected
    assert counted(unroll=1) < 0.5 * expected


@pytest.mark.parametrize("name", MODELS)
def test_packed_blocks_are_counted_with_the_vocabulary_head(name, mesh):
    """The loss computes the logits twice, to save memory: once more than is useful."""
    config = MODELS[name]
    model, length = shapes_of(LanguageModel, config), 11
    blocks = TokenBlocks(*(np.zeros((1, 2, length), np.int32) for _ in range(2)))
    forward = language_flops(config, length, masked=True).times(2)
    assert dot_flops(next_token_log_probs, model, blocks) == forward.total
    trained = dot_flops(jax.grad(lambda *args: loss_and_targets(*args)[0]), model, blocks)
    assert trained == 3 * forward.total + forward.head
    layer = layer_flops(config)
    seen = config.num_layers * keys_seen(0, length, config.sliding_window) * layer.key
    masked = config.num_layers * length**2 * layer.key
    useful = language_flops(config, length)
    assert useful.total == forward.total // 2 - masked + seen


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_alone_is_a_whole_text_with_a_head_at_every_position(name):
    config, length = MODELS[name], SHAPE.prefix_length + SHAPE.suffix_length
    text = language_flops(config, length)
    expected = text.total - text.head + length * 2 * config.width
    assert pair_flops(config, SHAPE).total == 9 * expected
