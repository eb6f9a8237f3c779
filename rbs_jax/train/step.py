"""One training step: where the model, the objective and the data's record meet."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.objective import Metrics, ObjectiveConfig, grid_metrics, objective
from rbs_jax.optim import OptimConfig, frozen
from rbs_jax.shapes import GridBatch, TokenGrid
from rbs_jax.sharding import activation_spec
from rbs_jax.train.state import TrainState

Step = Callable[[TrainState, GridBatch], tuple[TrainState, Metrics]]


def loss_and_rewards(
    model: RewardModel, batch: GridBatch, config: ObjectiveConfig
) -> tuple[Float[Array, ""], Float[Array, "G P S"]]:
    """The objective of a batch, and the rewards it comes from."""
    r_GPS = score_grid(model, batch.tokens)
    return objective(r_GPS, batch.positive, batch.negatives, config)[0], r_GPS


def make_step(
    optimizer: optax.GradientTransformation, config: ObjectiveConfig, optim: OptimConfig
) -> Step:
    """The compiled step; the old state's memory is given to the new one.

    A step is one update, or several in turn, each on `optim.prefixes_per_update`
    prefixes of every grid. An update whose loss or gradient is not finite leaves
    the state as it was, but for the counters; so does one without any negative,
    which is no fault and is not counted. Metrics are those of the whole
    batch, each prefix scored by the weights just before its update.
    """

    def update(
        suffixes: TokenGrid, state: TrainState, rows: GridBatch
    ) -> tuple[TrainState, tuple[Array, Array]]:
        batch = _with_suffixes(rows, suffixes)

        def loss_of(model: RewardModel) -> tuple[Array, Array]:
            return loss_and_rewards(_hold(model, optim), batch, config)

        (loss, r_GRS), grads = jax.value_and_grad(loss_of, has_aux=True)(state.model)
        norm = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.model)
        moved = optax.apply_updates(state.model, updates), opt_state
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        # Selected value by value, not by lax.cond: no second copy of the state is ever needed.
        before, made = (state.model, state.opt_state), finite & batch.negatives.any()
        model, opt_state = jax.tree.map(partial(jnp.where, made), moved, before)
        in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        return TrainState(model, opt_state, state.skipped + ~finite, in_a_row), (r_GRS, norm)

    def step(state: TrainState, batch: GridBatch) -> tuple[TrainState, Metrics]:
        rows = _in_turn(batch, optim.prefixes_per_update or batch.positive.shape[1])
        state, (r_NGRS, norms) = jax.lax.scan(partial(update, batch.tokens), state, rows)
        r_GPS = _joined(r_NGRS)
        loss, parts = objective(r_GPS, batch.positive, batch.negatives, config)
        metrics = {"loss": loss} | parts | grid_metrics(r_GPS, batch.positive, batch.negatives)
        metrics["grad_norm"] = norms.mean()
        metrics["skipped_updates"] = state.skipped
        metrics["skipped_in_a_row"] = state.skipped_in_a_row
        return state, metrics

    return jax.jit(step, donate_argnums=0)


def _hold(model: RewardModel, optim: OptimConfig) -> RewardModel:
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
