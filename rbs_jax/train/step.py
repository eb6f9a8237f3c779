"""One training step: where the model, the objective and the data's record meet."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from rbs_jax.model.kinds import Model
from rbs_jax.model.language import LanguageModel, next_token_log_probs
from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.objective import Metrics, ObjectiveConfig, grid_metrics, language_loss, objective
from rbs_jax.optim import OptimConfig, frozen
from rbs_jax.shapes import GridBatch, TokenBlocks, TokenGrid
from rbs_jax.sharding import activation_spec
from rbs_jax.train.state import TrainState

Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
"""(state, GridBatch or TokenBlocks) -> the state after the step, and its metrics."""


def loss_and_rewards(
    model: RewardModel, batch: GridBatch, config: ObjectiveConfig
) -> tuple[Float[Array, ""], Float[Array, "G P S"]]:
    """The objective of a batch, and the rewards it comes from."""
    r_GPS = score_grid(model, batch.tokens)
    return objective(r_GPS, batch.positive, batch.negatives, config)[0], r_GPS


def loss_and_targets(
    model: LanguageModel, blocks: TokenBlocks
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The language loss of packed blocks, and how many tokens it predicts."""
    is_target_GPT = is_target(blocks)
    return language_loss(next_token_log_probs(model, blocks), is_target_GPT), is_target_GPT.sum()


def is_target(blocks: TokenBlocks) -> Bool[Array, "G P T"]:
    """Which tokens after a block's first are predicted: those with their document before them."""
    return blocks.segments[..., 1:] == blocks.segments[..., :-1]


def make_step(
    optimizer: optax.GradientTransformation, config: ObjectiveConfig, optim: OptimConfig
) -> Step:
    """The compiled step; the old state's memory is given to the new one.

    A step is one update, or several in turn, each on `optim.prefixes_per_update`
    prefixes of every grid. An update whose loss or gradient is not finite leaves
    the state as it was, but for the counters; so does one without any negative or
    target, which is no fault and is not counted. Metrics are those of the whole
    batch, each prefix scored by the weights just before its update.
    """

    def update(
        state: TrainState, loss_of: Callable[[Model], tuple[Array, Array]], asks: Array
    ) -> tuple[TrainState, tuple[Array, Array, Array]]:
        def of_free(model: Model) -> tuple[Array, Array]:
            return loss_of(_hold(model, optim))

        (loss, beside), grads = jax.value_and_grad(of_free, has_aux=True)(state.model)
        norm = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.model)
        moved = optax.apply_updates(state.model, updates), opt_state
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        # Selected value by value, not by lax.cond: no second copy of the state is ever needed.
        before, made = (state.model, state.opt_state), finite & asks
        model, opt_state = jax.tree.map(partial(jnp.where, made), moved, before)
        in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        state = TrainState(model, opt_state, state.skipped + ~finite, in_a_row)
        return state, (loss, beside, norm)

    def of_grids(state: TrainState, batch: GridBatch) -> tuple[TrainState, Metrics, Array]:
        def turn(state: TrainState, rows: GridBatch) -> tuple[TrainState, tuple[Array, Array]]:
            own = _with_suffixes(rows, batch.tokens)
            loss_of = partial(loss_and_rewards, batch=own, config=config)
            state, (_, r_GRS, norm) = update(state, loss_of, own.negatives.any())
            return state, (r_GRS, norm)

        rows = _in_turn(batch, optim.prefixes_per_update or batch.positive.shape[1])
        state, (r_NGRS, norms) = jax.lax.scan(turn, state, rows)
        r_GPS = _joined(r_NGRS)
        loss, parts = objective(r_GPS, batch.positive, batch.negatives, config)
        watched = grid_metrics(r_GPS, batch.positive, batch.negatives)
        return state, {"loss": loss} | parts | watched, norms.mean()

    def of_blocks(state: TrainState, blocks: TokenBlocks) -> tuple[TrainState, Metrics, Array]:
        loss_of = partial(loss_and_targets, blocks=blocks)
        state, (loss, targets, norm) = update(state, loss_of, is_target(blocks).any())
        return state, {"loss": loss, "targets": targets}, norm

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        of_batch = of_blocks if config.loss == "causal_lm" else of_grids
        state, metrics, norm = of_batch(state, batch)
        metrics["grad_norm"] = norm
        metrics["skipped_updates"] = state.skipped
        metrics["skipped_in_a_row"] = state.skipped_in_a_row
        return state, metrics

    return jax.jit(step, donate_argnums=0)


def _hold(model: Model, optim: OptimConfig) -> Model:
    """The model with its frozen parameters closed to gradients, so that none are computed."""

    def hold(x: Array, is_frozen: bool) -> Array:
        return jax.lax.stop_gradient(x) if is_frozen else x

    return jax.tree.map(hold, model, frozen(model, optim))


ROWS = GridBatch(TokenGrid("GPC", "GP", None, None), "GP", "GPS")
"""The axes of what belongs to the prefixes of a grid; the suffixes serve them all."""


def _in_turn(batch: GridBatch, rows: int) -> GridBatch:
    """The batch without its suffixes, `rows` prefixes of every grid at a time, along a new axis."""

    def cut(letters: str, x: Array) -> Array:
        spec = activation_spec(letters)
        # Prefixes may be spread over devices; their ids are few, so each first gets them all.
        whole = jax.sharding.reshard(x, PartitionSpec(spec[0]))
        turns = whole.reshape(x.shape[0], -1, rows, *x.shape[2:]).swapaxes(0, 1)
        return jax.sharding.reshard(turns, PartitionSpec(None, *spec))

    without = batch._replace(tokens=batch.tokens._replace(suffixes=None, suffix_lengths=None))
    return jax.tree.map(cut, ROWS, without)


def _with_suffixes(rows: GridBatch, tokens: TokenGrid) -> GridBatch:
    shared = {"suffixes": tokens.suffixes, "suffix_lengths": tokens.suffix_lengths}
    return rows._replace(tokens=rows.tokens._replace(**shared))


def _joined(r_NGRS: Float[Array, "N G R S"]) -> Float[Array, "G P S"]:
    """The rewards of N turns of R prefixes as those of one grid."""
    r_GNRS = jax.sharding.reshard(r_NGRS, PartitionSpec(None, "data")).swapaxes(0, 1)
    return r_GNRS.reshape(r_GNRS.shape[0], -1, r_GNRS.shape[-1])
