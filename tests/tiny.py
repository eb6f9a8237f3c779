"""A tiny model and small random grids for tests."""

import numpy as np

from rbs_jax.model.config import TransformerConfig
from rbs_jax.shapes import GridBatch, TokenGrid

TINY = TransformerConfig(
    vocab_size=64,
    width=16,
    mlp_width=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    max_positions=64,
    dtype="float32",
)


def random_tokens(
    seed, grids=1, prefixes=3, suffixes=3, context=5, length=4, vocab=64, own=False, full=False
):
    """A TokenGrid with random ids and lengths: prefixes from empty, suffixes from one id."""
    chance = np.random.default_rng(seed)
    rows = (grids, prefixes, suffixes) if own else (grids, suffixes)
    shortest = (context, length) if full else (0, 1)
    return TokenGrid(
        chance.integers(vocab, size=(grids, prefixes, context)).astype(np.int32),
        chance.integers(shortest[0], context + 1, size=(grids, prefixes)).astype(np.int32),
        chance.integers(vocab, size=(*rows, length)).astype(np.int32),
        chance.integers(shortest[1], length + 1, size=rows).astype(np.int32),
    )


def random_batch(seed, grids=1, prefixes=4, **sizes):
    """An in-batch GridBatch whose true suffixes lie on the diagonal, some negatives masked."""
    tokens = random_tokens(seed, grids, prefixes, prefixes, **sizes)
    positive = np.tile(np.arange(prefixes, dtype=np.int32), (grids, 1))
    chance = np.random.default_rng(seed + 1)
    negatives = chance.random((grids, prefixes, prefixes)) < 0.8
    return GridBatch(tokens, positive, negatives & ~np.eye(prefixes, dtype=bool))


def made_up_documents(count, seed=0):
    """Texts that each dwell on a few words of their own, as documents do."""
    chance = np.random.default_rng(seed)
    words = ["".join(chance.choice(list("abcdefghij"), size=4)) for _ in range(60)]
    return [
        " ".join(chance.choice(chance.choice(words, size=6), size=int(chance.integers(5, 60))))
        for _ in range(count)
    ]
