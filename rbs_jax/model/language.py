"""The language model: a vocabulary head on the trunk, and log-probabilities of tokens."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import normal
from rbs_jax.model.transformer import (
    Transformer,
    run_prefixes,
    run_suffixes,
    under_every_prefix,
)
from rbs_jax.shapes import TokenBlocks, TokenGrid
from rbs_jax.sharding import activation_spec, einsum

LOGITS_BYTES = 2**28
"""Float32 logits that exist at once, over all devices, as long as one position a text has fewer."""


class VocabularyHead(nnx.Module):
    """Logits over the vocabulary; the embedding table itself where embeddings are tied."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        self.weight = None if config.tied_embeddings else normal(key, "VD", config)

    def logits(
        self, trunk: Transformer, x_GPSTD: Float[Array, "G P S T D"]
    ) -> Float[Array, "G P S T V"]:
        """Float32 logits of the token after each position, from the trunk's hidden states."""
        table = trunk.embedding if self.weight is None else self.weight
        return einsum("GPSTD,VD->GPSTV", trunk.normed(x_GPSTD), table[...])


class LanguageModel(nnx.Module):
    """A decoder trunk and a vocabulary head."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        trunk, head = jax.random.split(key)
        self.trunk = Transformer(trunk, config)
        self.head = VocabularyHead(head, config)

    def log_probs(
        self, x_GPSTD: Float[Array, "G P S T D"], targets_GPST: Int[Array, "G P S T"]
    ) -> Float[Array, "G P S T"]:
        """The log-probability of each target from the hidden state before it [nats].

        Some positions of every text at a time, and again in the backward pass, so
        that the logits never fill memory.
        """
        texts, length = targets_GPST.shape[:3], targets_GPST.shape[3]
        bytes_a_position = targets_GPST[..., 0].size * self.trunk.config.vocab_size * 4
        chunk = min(max(LOGITS_BYTES // bytes_a_position, 1), length)
        missing = -length % chunk
        # A reshape by itself would forget the sharding of an axis of size 1.
        reshape = partial(jnp.reshape, out_sharding=activation_spec("GPS"))

        def in_chunks(x: Array) -> Array:
            widths = ((0, 0), (0, 0), (0, 0), (0, missing), *((0, 0) for _ in x.shape[4:]))
            chunks = reshape(jnp.pad(x, widths), (*texts, -1, chunk, *x.shape[4:]))
            return jnp.moveaxis(chunks, 3, 0)

        @jax.checkpoint
        def of_chunk(_: None, chunk: tuple[Array, Array]) -> tuple[None, Array]:
            x_GPSTD, targets_GPST = chunk
            logits_GPSTV = self.head.logits(self.trunk, x_GPSTD)
            is_target = jnp.arange(logits_GPSTV.shape[-1]) == targets_GPST[..., None]
            own_GPST = jnp.where(is_target, logits_GPSTV, 0).sum(axis=-1)
            return None, own_GPST - jax.nn.logsumexp(logits_GPSTV, axis=-1)

        _, chunks = jax.lax.scan(of_chunk, None, (in_chunks(x_GPSTD), in_chunks(targets_GPST)))
        return reshape(jnp.moveaxis(chunks, 0, 3), (*texts, -1))[..., :length]


def next_token_log_probs(model: LanguageModel, blocks: TokenBlocks) -> Float[Array, "G P T"]:
    """The log-probability of every token of a block but the first, after those of its document."""
    tokens_GPST, segments_GPST = blocks.tokens[:, :, None], blocks.segments[:, :, None]
    starts_GP = jnp.zeros_like(blocks.tokens[..., 0])
    x_GPSTD = model.trunk.embed("GPST", tokens_GPST)
    x_GPSTD, _ = model.trunk(x_GPSTD, starts_GP, segments_GPSU=segments_GPST)
    return model.log_probs(x_GPSTD[:, :, :, :-1], tokens_GPST[..., 1:])[:, :, 0]


def likelihood_grid(model: LanguageModel, grid: TokenGrid) -> Float[Array, "G P S"]:
    """The mean log-probability of a suffix's tokens after every prefix of its grid [nats]."""
    lengths_GPS = under_every_prefix("GPS", grid.suffix_lengths, grid)
    return log_prob_grid(model, grid) / lengths_GPS


def log_prob_grid(model: LanguageModel, grid: TokenGrid) -> Float[Array, "G P S"]:
    """The log-probability of every suffix, all its tokens, after every prefix of its grid [nats].

    A suffix's first token is predicted by its prefix's last; after an empty
    prefix all tokens are equally likely there.
    """
    last_GPD, prefix = run_prefixes(model.trunk, grid)
    x_GPSTD = run_suffixes(model.trunk, grid, prefix)
    before_GPSTD = jnp.broadcast_to(
        last_GPD[:, :, None, None], (*x_GPSTD.shape[:3], 1, x_GPSTD.shape[-1])
    )
    x_GPSTD = jnp.concatenate([before_GPSTD, x_GPSTD[:, :, :, :-1]], axis=3)
    suffixes_GPST = under_every_prefix("GPST", grid.suffixes, grid)
    lengths_GPS = under_every_prefix("GPS", grid.suffix_lengths, grid)
    log_probs_GPST = model.log_probs(x_GPSTD, suffixes_GPST)
    is_real_GPST = jnp.arange(suffixes_GPST.shape[-1]) < lengths_GPS[..., None]
    return jnp.where(is_real_GPST, log_probs_GPST, 0).sum(axis=-1)
