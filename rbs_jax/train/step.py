"""One training step: where the model, the objective and the data's record meet."""

from collections.abc import Callable

import jax
import optax
from jaxtyping import Array, Float

from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.objective import Metrics, ObjectiveConfig, bradley_terry, grid_metrics
from rbs_jax.shapes import GridBatch
from rbs_jax.train.state import TrainState

Step = Callable[[TrainState, GridBatch], tuple[TrainState, Metrics]]


def loss_and_metrics(
    model: RewardModel, batch: GridBatch, config: ObjectiveConfig
) -> tuple[Float[Array, ""], Metrics]:
    """The objective of a batch, and what to watch beside it."""
    r_GPS = score_grid(model, batch.tokens)
    loss, parts = bradley_terry(r_GPS, batch.positive, batch.negatives, config)
    return loss, {"loss": loss} | parts | grid_metrics(r_GPS, batch.positive, batch.negatives)


def make_step(optimizer: optax.GradientTransformation, objective: ObjectiveConfig) -> Step:
    """The compiled update; the old state's memory is given to the new one."""

    def step(state: TrainState, batch: GridBatch) -> tuple[TrainState, Metrics]:
        gradient = jax.value_and_grad(loss_and_metrics, has_aux=True)
        (_, metrics), grads = gradient(state.model, batch, objective)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.model)
        model = optax.apply_updates(state.model, updates)
        metrics["grad_norm"] = optax.global_norm(grads)
        return TrainState(model, opt_state), metrics

    return jax.jit(step, donate_argnums=0)
