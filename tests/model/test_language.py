import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model import language
from rbs_jax.model.kinds import grid_scores
from rbs_jax.model.language import LanguageModel, VocabularyHead, next_token_log_probs
from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.model.transformer import Transformer
from rbs_jax.shapes import TokenBlocks
from rbs_jax.sharding import activation_sharding, activation_spec
from tests.model.noise import noisy
from tests.model.reference import log_probs
from tests.optimised import AS_USED
from tests.tiny import TINY, random_tokens

likelihood_grid = jax.jit(language.likelihood_grid)
UNTIED = dataclasses.replace(TINY, tied_embeddings=False)
LENGTHS = (3, 5, 1, 4)
SEGMENTS = np.repeat(np.arange(4, dtype=np.int32), LENGTHS)
"""A block of 13 ids, four documents."""


def placed(letters, x):
    return jax.device_put(jnp.asarray(x), activation_spec(letters))


def block_of(ids, segments=SEGMENTS):
    ids, segments = (np.asarray(x, np.int32)[None, None] for x in (ids, segments))
    return TokenBlocks(placed("GPT", ids), placed("GPT", segments))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_products_with_the_embedding_or_with_a_table_of_their_own(mesh, tied):
    config = dataclasses.replace(TINY, tied_embeddings=tied)
    trunk = jax.jit(Transformer, static_argnums=1)(jax.random.key(0), config)
    head = jax.jit(VocabularyHead, static_argnums=1)(jax.random.key(1), config)
    hidden, _ = trunk(trunk.embed("GPST", jnp.arange(5)[None, None, None]), jnp.zeros((1, 1), int))
    table = trunk.embedding if tied else head.weight
    expected = np.asarray(trunk.normed(hidden)) @ np.asarray(table[...]).T
    np.testing.assert_allclose(head.logits(trunk, hidden), expected, rtol=1e-4, atol=1e-6)
    assert len(jax.tree.leaves(head)) == (0 if tied else 1)


@pytest.mark.parametrize("change", [{}, {"tied_embeddings": False}, {"sliding_window": 2}])
def test_a_document_of_a_block_is_predicted_as_a_plain_decoder_would_it_alone(mesh, change):
    model = noisy(LanguageModel, dataclasses.replace(TINY, **change))
    ids = np.random.default_rng(0).integers(64, size=13)
    ours = np.asarray(jax.jit(next_token_log_probs)(model, block_of(ids)))[0, 0]
    for start, length in zip(np.cumsum(LENGTHS) - LENGTHS, LENGTHS, strict=True):
        expected = log_probs(model, ids[start : start + length])
        np.testing.assert_allclose(ours[start : start + length - 1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", [{}, {"remat": "full"}])
def test_the_gradient_of_a_block_is_the_sum_of_those_of_its_documents(mesh, change):
    model = noisy(LanguageModel, dataclasses.replace(TINY, **change))
    chance = np.random.default_rng(1)
    ids, weights = chance.integers(64, size=13), chance.normal(size=12)
    weights[np.diff(SEGMENTS) != 0] = 0

    @jax.jit
    @jax.grad
    def gradient(model, blocks, weights):
        return (next_token_log_probs(model, blocks) * weights).sum()

    whole = gradient(model, block_of(ids), weights)
    parts = []
    for document in (0, 1, 3):
        at = np.flatnonzero(document == SEGMENTS)
        alone = block_of(ids[at], np.zeros_like(at))
        parts.append(gradient(model, alone, weights[at[:-1]]))
    total = jax.tree.map(lambda *x: sum(x), *parts)
    near = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(near, whole, total)


@pytest.mark.parametrize("change", [{}, {"num_layers": 1, "sliding_window": 2}])
def test_a_token_is_predicted_by_the_earlier_ones_of_its_document_and_no_other(mesh, change):
    """Every position has an id of its own, so the embedding's gradient shows who was read."""
    model = noisy(LanguageModel, dataclasses.replace(UNTIED, **change))
    jacobian = jax.jit(jax.jacrev(lambda m: next_token_log_probs(m, block_of(np.arange(13)))))
    read = np.abs(jacobian(model).trunk.embedding[...]).sum(-1)[0, 0, :, :13]
    distance = np.arange(12)[:, None] - np.arange(13)
    expected = (distance >= 0) & (SEGMENTS[:12, None] == SEGMENTS)
    expected &= distance < change.get("sliding_window", 13)
    np.testing.assert_array_equal(read != 0, expected)


def chunked_and_plain(config, length, texts=(2, 1, 2)):
    """Log-probabilities and their gradients by model and states: ours, then the plain ones."""
    chance = np.random.default_rng(0)
    x_GPSTD = placed("GPSTD", chance.normal(size=(*texts, length, 16)).astype(np.float32))
    targets_GPST = placed("GPST", chance.integers(64, size=(*texts, length)))
    weights = chance.normal(size=targets_GPST.shape)

    def chunked(model, x_GPSTD):
        return model.log_probs(x_GPSTD, targets_GPST)

    def plain(model, x_GPSTD):
        every_GPSTV = jax.nn.log_softmax(model.head.logits(model.trunk, x_GPSTD))
        return jnp.take_along_axis(every_GPSTV, targets_GPST[..., None], axis=-1)[..., 0]

    model = noisy(LanguageModel, config)
    for function in (chunked, plain):

        def weighed(model, x, function=function):
            y = function(model, x)
            return (y * weights).sum(), y

        (_, y), grads = jax.jit(jax.value_and_grad(weighed, (0, 1), has_aux=True))(model, x_GPSTD)
        yield y, grads


@pytest.mark.parametrize("config", [TINY, UNTIED])
@pytest.mark.parametrize(("positions", "at_once"), [(0.5, 1), (1, 1), (3, 3), (5, 5), (99, 7)])
def test_chunks_of_any_size_give_the_plain_log_softmax_and_its_gradients(
    mesh, monkeypatch, config, positions, at_once
):
    one_position = 2 * 1 * 2 * 64 * 4
    monkeypatch.setattr(language, "LOGITS_BYTES", int(positions * one_position))
    lengths, logits = set(), VocabularyHead.logits

    def watched(head, trunk, x_GPSTD):
        lengths.add(x_GPSTD.shape[3])
        return logits(head, trunk, x_GPSTD)

    monkeypatch.setattr(VocabularyHead, "logits", watched)
    (ours, our_grads), (expected, grads) = chunked_and_plain(config, length=7)
    assert lengths == {at_once, 7}
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    near = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(near, our_grads, grads)


@pytest.mark.parametrize(
    ("config", "differentiate"), [(TINY, jax.grad), (UNTIED, jax.grad), (UNTIED, lambda f: f)]
)
def test_the_compiled_program_never_holds_all_logits(mesh, monkeypatch, config, differentiate):
    config = dataclasses.replace(config, vocab_size=2**16, num_layers=1)
    ids = jax.ShapeDtypeStruct((1, 4, 65), jnp.int32, sharding=activation_sharding(mesh, "GPT"))
    model = jax.eval_shape(lambda: LanguageModel(jax.random.key(0), config))
    one_position = 4 * 2**16 * 4

    def temporary_bytes(positions_at_once):
        monkeypatch.setattr(language, "LOGITS_BYTES", positions_at_once * one_position)
        function = differentiate(lambda model, blocks: next_token_log_probs(model, blocks).sum())
        compiled = jax.jit(function).lower(model, TokenBlocks(ids, ids)).compile(AS_USED)
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(2) < 64 * one_position / 4
    assert temporary_bytes(64) >= 64 * one_position, "the measure should see logits"


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("change", [{}, {"tied_embeddings": False}, {"sliding_window": 3}])
def test_a_likelihood_is_the_mean_log_probability_of_the_suffix_in_the_whole_text(
    mesh, own, change
):
    model = noisy(LanguageModel, dataclasses.replace(TINY, **change))
    tokens = random_tokens(7, grids=2, prefixes=3, suffixes=2, own=own)
    tokens.prefix_lengths[0, 1] = 0
    ours = np.asarray(likelihood_grid(model, tokens))
    for g, p, s in np.ndindex(2, 3, 2):
        row = (g, p, s) if own else (g, s)
        before = tokens.prefixes[g, p][: tokens.prefix_lengths[g, p]]
        after = tokens.suffixes[row][: tokens.suffix_lengths[row]]
        each = log_probs(model, [*before, *after])
        if not len(before):
            each = [-np.log(64), *each]
        assert len(each[-len(after) :]) == len(after)
        assert ours[g, p, s] == pytest.approx(np.mean(each[-len(after) :]), rel=1e-3), (g, p, s)


def test_one_token_after_nothing_is_as_likely_as_any(mesh):
    tokens = random_tokens(0, prefixes=1, suffixes=1)
    tokens.prefix_lengths[:], tokens.suffix_lengths[:] = 0, 1
    ours = likelihood_grid(noisy(LanguageModel), tokens).item()
    assert ours == pytest.approx(-np.log(64), rel=1e-6)


def test_what_stands_in_the_padding_changes_no_bit_of_a_likelihood(mesh):
    tokens = random_tokens(2, prefixes=3, suffixes=3)
    model = noisy(LanguageModel)

    def padded_with(ids, lengths, filler):
        return np.where(np.arange(ids.shape[-1]) < lengths[..., None], ids, filler)

    zeros, others = (
        tokens._replace(
            prefixes=padded_with(tokens.prefixes, tokens.prefix_lengths, filler),
            suffixes=padded_with(tokens.suffixes, tokens.suffix_lengths, filler),
        )
        for filler in (0, 63)
    )
    assert (zeros.prefixes != others.prefixes).any()
    assert (zeros.suffixes != others.suffixes).any()
    np.testing.assert_array_equal(likelihood_grid(model, zeros), likelihood_grid(model, others))


def test_either_kind_of_model_scores_a_grid_in_its_own_way(mesh):
    tokens = random_tokens(2)
    for kind, way in ((RewardModel, jax.jit(score_grid)), (LanguageModel, likelihood_grid)):
        model = noisy(kind)
        np.testing.assert_array_equal(jax.jit(grid_scores)(model, tokens), way(model, tokens))
