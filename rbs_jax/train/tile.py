"""The gradients of a grid in tiles: the same sums, some prefixes and suffixes at a time.

Rows come first: some prefixes, each with all its suffixes, by plain differentiation. Where
one row does not fit, the prefixes are run once, then their suffixes some at a time; each
tile adds its share to the gradients of the weights and of the prefixes' keys and values,
whose sum goes back through the prefixes in the end.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from rbs_jax.errors import UserError
from rbs_jax.model.language import LanguageModel, next_token_log_probs
from rbs_jax.model.reward import RewardModel, score_grid, score_suffixes
from rbs_jax.model.transformer import Prefix, run_prefixes
from rbs_jax.objective import (
    ObjectiveConfig,
    language_loss,
    objective,
    pair_weights,
    pairs_objective,
    row_weights,
)
from rbs_jax.shapes import GridBatch, TokenBlocks, TokenGrid
from rbs_jax.sharding import activation_spec

Hold = Callable[[Any], Any]
"""Closes a model's frozen parameters to gradients."""


@dataclasses.dataclass(frozen=True)
class TileConfig:
    """What is computed at a time; the same result to rounding. None for both: chosen by memory."""

    prefixes: int | None = None
    """Prefixes of every grid, or blocks of a language model's; None for all of an update's."""
    suffixes: int | None = None
    """Suffixes after each of these prefixes; None for all of a grid's."""

    def __post_init__(self) -> None:
        for name in ("prefixes", "suffixes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"tile.{name} is {value}, it must be at least 1")


def grid_gradients(
    model: RewardModel, batch: GridBatch, config: ObjectiveConfig, tile: TileConfig, hold: Hold
) -> tuple[Float[Array, "G P S"], RewardModel]:
    """The rewards of a batch, and the gradient of its objective, summed over tiles in float32."""
    w_GP = row_weights(batch.negatives)
    prefixes, suffixes = batch.negatives.shape[1:]
    of_rows = partial(_of_whole_rows, config=config, hold=hold)
    rows_at_once, some = tile.prefixes or prefixes, tile.suffixes or suffixes
    if some < suffixes:
        of_rows = partial(_of_tiled_rows, config=config, hold=hold, suffixes=some)
    if rows_at_once >= prefixes:
        return of_rows(model, batch, w_GP)

    def turn(total: Any, rows_and_weights: Any) -> tuple[Any, Array]:
        rows, w_GR = rows_and_weights
        r_GRS, grads = of_rows(model, with_suffixes(rows, batch.tokens), w_GR)
        return _sum(total, grads), r_GRS

    turns = rows_in_turn(batch, rows_at_once), in_turn("GP", w_GP, "P", rows_at_once)
    grads, r_NGRS = jax.lax.scan(turn, _zeros(model), turns)
    return joined(r_NGRS, axis=1), grads


def _of_whole_rows(
    model: RewardModel,
    batch: GridBatch,
    w_GP: Float[Array, "G P"],
    config: ObjectiveConfig,
    hold: Hold,
) -> tuple[Array, RewardModel]:
    def loss_of(model: RewardModel) -> tuple[Array, Array]:
        r_GPS = score_grid(hold(model), batch.tokens)
        return objective(r_GPS, batch.positive, batch.negatives, config, w_GP)[0], r_GPS

    grads, r_GPS = jax.grad(loss_of, has_aux=True)(model)
    return r_GPS, grads


def _of_tiled_rows(
    model: RewardModel,
    batch: GridBatch,
    w_GP: Float[Array, "G P"],
    config: ObjectiveConfig,
    hold: Hold,
    suffixes: int,
) -> tuple[Array, RewardModel]:
    def rewards(model: RewardModel, prefix: Prefix, suffixes: Array, lengths: Array) -> Array:
        tokens = batch.tokens._replace(suffixes=suffixes, suffix_lengths=lengths)
        return score_suffixes(hold(model), tokens, prefix)

    def true_rewards(model: RewardModel, prefix: Prefix) -> Array:
        return rewards(model, prefix, *_true_suffixes(batch))[..., 0]

    prefix, prefix_backward = jax.vjp(lambda m: run_prefixes(hold(m).trunk, batch.tokens)[1], model)
    s_GP, true_backward = jax.vjp(true_rewards, model, prefix)
    tiles = (
        in_turn("GST", batch.tokens.suffixes, "S", suffixes),
        in_turn("GS", batch.tokens.suffix_lengths, "S", suffixes),
    )
    if config.loss == "bradley_terry":  # a pair's loss asks for no reward but its own two
        factors_GPS = pair_weights(w_GP, batch.negatives)
        loss_of_tile: Callable[..., Array] = partial(pairs_objective, config=config)
    else:
        _, r_NGPS = jax.lax.scan(lambda _, tile: (None, rewards(model, prefix, *tile)), None, tiles)
        factors_GPS = _slopes(joined(r_NGPS, axis=2), batch, w_GP, config)
        loss_of_tile = _linear

    def turn(total: Any, tile_and_factors: Any) -> tuple[Any, Array]:
        tile, factors_GPS = tile_and_factors

        def loss_of(model: RewardModel, prefix: Prefix, s_GP: Array) -> tuple[Array, Array]:
            r_GPS = rewards(model, prefix, *tile)
            return loss_of_tile(r_GPS, s_GP, factors_GPS), r_GPS

        grads, r_GPS = jax.grad(loss_of, argnums=(0, 1, 2), has_aux=True)(model, prefix, s_GP)
        return _sum(total, grads), r_GPS

    turns = tiles, in_turn("GPS", factors_GPS, "S", suffixes)
    totals, r_NGPS = jax.lax.scan(turn, _zeros((model, prefix, s_GP)), turns)
    grads, dprefix, ds_GP = totals
    true_grads, true_dprefix = true_backward(ds_GP)
    dprefix = jax.tree.map(
        lambda x, like: x.astype(like.dtype), _sum(dprefix, true_dprefix), prefix
    )
    (prefix_grads,) = prefix_backward(dprefix)
    return joined(r_NGPS, axis=2), _sum(_sum(grads, true_grads), prefix_grads)


def _slopes(
    r_GPS: Float[Array, "G P S"],
    batch: GridBatch,
    w_GP: Float[Array, "G P"],
    config: ObjectiveConfig,
) -> Float[Array, "G P S"]:
    """How the objective changes with each reward."""

    def loss_of(r_GPS: Array) -> Array:
        return objective(r_GPS, batch.positive, batch.negatives, config, w_GP)[0]

    return jax.grad(loss_of)(r_GPS)


def _linear(r_GPS: Array, _: Array, slopes_GPS: Array) -> Array:
    return (slopes_GPS * r_GPS).sum()


def block_gradients(
    model: LanguageModel, blocks: TokenBlocks, tile: TileConfig, hold: Hold
) -> tuple[Float[Array, ""], LanguageModel]:
    """The language loss of a batch, and its gradient, summed over tiles in float32."""
    targets = is_target(blocks).sum()

    def of_rows(rows: TokenBlocks) -> tuple[Array, LanguageModel]:
        def loss_of(model: LanguageModel) -> Array:
            log_probs_GPT = next_token_log_probs(hold(model), rows)
            return language_loss(log_probs_GPT, is_target(rows), targets)

        return jax.value_and_grad(loss_of)(model)

    prefixes = blocks.tokens.shape[1]
    rows_at_once = tile.prefixes or prefixes
    if rows_at_once >= prefixes:
        return of_rows(blocks)
    turns = jax.tree.map(lambda x: in_turn("GPT", x, "P", rows_at_once), blocks)
    none = jnp.zeros(()), _zeros(model)
    return jax.lax.scan(lambda total, rows: (_sum(total, of_rows(rows)), None), none, turns)[0]


def is_target(blocks: TokenBlocks) -> Array:
    """Which tokens after a block's first are predicted: those with their document before them."""
    return blocks.segments[..., 1:] == blocks.segments[..., :-1]


def _zeros(like: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros_like(x, jnp.promote_types(x.dtype, jnp.float32)), like)


def _sum(total: Any, more: Any) -> Any:
    return jax.tree.map(jnp.add, total, more)


ROWS = GridBatch(TokenGrid("GPC", "GP", None, None), "GP", "GPS")
"""The axes of what belongs to the prefixes of a grid; the suffixes serve them all."""


def rows_in_turn(batch: GridBatch, rows: int) -> GridBatch:
    """The batch without its suffixes, `rows` prefixes of every grid at a time, along a new axis."""
    without = batch._replace(tokens=batch.tokens._replace(suffixes=None, suffix_lengths=None))
    return jax.tree.map(lambda letters, x: in_turn(letters, x, "P", rows), ROWS, without)


def with_suffixes(rows: GridBatch, tokens: TokenGrid) -> GridBatch:
    """Some prefixes' part of a batch, together with the suffixes that serve them all."""
    shared = {"suffixes": tokens.suffixes, "suffix_lengths": tokens.suffix_lengths}
    return rows._replace(tokens=rows.tokens._replace(**shared))


def _true_suffixes(batch: GridBatch) -> tuple[Array, Array]:
    """Each prefix's own true suffix, the one of a grid of its own, and its length."""

    def pick(letters: str, x: Array) -> Array:
        whole, index = (jax.sharding.reshard(y, PartitionSpec()) for y in (x, batch.positive))
        index = index.reshape(*index.shape, *[1] * (x.ndim - 2))
        own = jnp.take_along_axis(whole, index, axis=1)[:, :, None]
        return jax.sharding.reshard(own, activation_spec(letters))

    return pick("GPST", batch.tokens.suffixes), pick("GPS", batch.tokens.suffix_lengths)


def in_turn(letters: str, x: Array, axis: str, size: int) -> Array:
    """`x` with `size` of an axis at a time, along a new first axis."""
    spec, at = activation_spec(letters), letters.index(axis)
    # Prefixes may be spread over devices; what is cut here is small, so each first gets it all.
    whole = jax.sharding.reshard(x, PartitionSpec(spec[0]))
    turns = whole.reshape(*x.shape[:at], -1, size, *x.shape[at + 1 :])
    return jax.sharding.reshard(jnp.moveaxis(turns, at, 0), PartitionSpec(None, *spec))


def joined(r_NGPS: Float[Array, "N G R Z"], axis: int) -> Float[Array, "G P S"]:
    """The rewards of N turns along an axis as those of one grid."""
    whole = jax.sharding.reshard(r_NGPS, PartitionSpec(None, "data"))
    r_GPS = jnp.moveaxis(whole, 0, axis)
    shape = list(whole.shape[1:])
    shape[axis] = -1
    return r_GPS.reshape(shape)
