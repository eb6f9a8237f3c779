"""One training step: where the model, the objective and the data's record meet."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from rbs_jax.model.kinds import Model
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import Metrics, ObjectiveConfig, grid_metrics, objective
from rbs_jax.optim import OptimConfig, frozen
from rbs_jax.shapes import GridBatch, TokenBlocks
from rbs_jax.train.state import TrainState
from rbs_jax.train.tile import (
    TileConfig,
    block_gradients,
    grid_gradients,
    is_target,
    joined,
    rows_in_turn,
    with_suffixes,
)

Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
"""(state, GridBatch or TokenBlocks) -> the state after the step, and its metrics."""


def make_step(
    optimizer: optax.GradientTransformation,
    config: ObjectiveConfig,
    optim: OptimConfig,
    tile: TileConfig = TileConfig(),  # noqa: B008 - frozen
) -> Step:
    """The compiled step; the old state's memory is given to the new one.

    A step is one update, or several in turn, each on `optim.prefixes_per_update`
    prefixes of every grid. An update whose loss or gradient is not finite leaves
    the state as it was, but for the counters; so does one without any negative or
    target, which is no fault and is not counted. Metrics are those of the whole
    batch, each prefix scored by the weights just before its update.
    """
    hold = partial(_hold, optim=optim)

    def update(
        state: TrainState, loss: Array, grads: Model, asks: Array
    ) -> tuple[TrainState, Array]:
        norm = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.model)
        moved = optax.apply_updates(state.model, updates), opt_state
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        # Selected value by value, not by lax.cond: no second copy of the state is ever needed.
        before, made = (state.model, state.opt_state), finite & asks
        model, opt_state = jax.tree.map(partial(jnp.where, made), moved, before)
        in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        return TrainState(model, opt_state, state.skipped + ~finite, in_a_row), norm

    def of_grids(state: TrainState, batch: GridBatch) -> tuple[TrainState, Metrics, Array]:
        def turn(state: TrainState, rows: GridBatch) -> tuple[TrainState, tuple[Array, Array]]:
            own = with_suffixes(rows, batch.tokens)
            r_GRS, grads = grid_gradients(cast(RewardModel, state.model), own, config, tile, hold)
            loss, _ = objective(r_GRS, own.positive, own.negatives, config)
            state, norm = update(state, loss, grads, own.negatives.any())
            return state, (r_GRS, norm)

        rows = rows_in_turn(batch, optim.prefixes_per_update or batch.positive.shape[1])
        state, (r_NGRS, norms) = jax.lax.scan(turn, state, rows)
        r_GPS = joined(r_NGRS, axis=1)
        loss, parts = objective(r_GPS, batch.positive, batch.negatives, config)
        watched = grid_metrics(r_GPS, batch.positive, batch.negatives)
        return state, {"loss": loss} | parts | watched, norms.mean()

    def of_blocks(state: TrainState, blocks: TokenBlocks) -> tuple[TrainState, Metrics, Array]:
        loss, grads = block_gradients(cast(LanguageModel, state.model), blocks, tile, hold)
        targets = is_target(blocks).sum()
        state, norm = update(state, loss, grads, targets > 0)
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
