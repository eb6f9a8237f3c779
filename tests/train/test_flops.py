import dataclasses

import jax
import pytest

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.stream import Work
from rbs_jax.experiment import Experiment
from rbs_jax.model.flops import GridShape, grid_flops, language_flops
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, frozen
from rbs_jax.train.flops import step_flops
from tests.losses import loss_and_rewards
from tests.model.dots import dot_flops
from tests.tiny import TINY, random_batch

GRIDS = 3
GRID = Experiment(
    model=TINY,
    split=SplitConfig(5, 4),
    grid=GridConfig(prefixes=4, grids_per_step=GRIDS),
)
OF_GRIDS = Work(48, 108, 252, prefix_length=5, suffix_length=4)
FORWARD = grid_flops(TINY, GridShape(4, 4, 5, 4))


def freezing(experiment, freeze):
    return dataclasses.replace(experiment, optim=OptimConfig(freeze=freeze))


def test_a_step_is_three_forward_passes_of_all_its_grids():
    assert step_flops(GRID, OF_GRIDS) == GRIDS * 3 * FORWARD.total
    by_row = dataclasses.replace(GRID, optim=OptimConfig(prefixes_per_update=1))
    assert step_flops(by_row, OF_GRIDS) == step_flops(GRID, OF_GRIDS)


def test_what_is_frozen_needs_no_gradients():
    """Without moving embeddings, none of the first layer's inputs; below a head alone, none."""
    assert step_flops(freezing(GRID, "embeddings"), OF_GRIDS) == GRIDS * (
        3 * FORWARD.total - FORWARD.first
    )
    assert step_flops(freezing(GRID, "trunk"), OF_GRIDS) == GRIDS * (FORWARD.total + FORWARD.head)


def test_what_is_traced_for_frozen_parts(mesh):
    """Below a head alone, nothing. The scan computes the first layer's inputs' all the same."""
    model, batch = shapes_of(RewardModel, TINY), random_batch(0, context=5, length=4)

    def loss(model, batch):
        return loss_and_rewards(model, batch, ObjectiveConfig())[0]

    def backward(freeze):
        def of_free(model, batch):
            held = frozen(model, OptimConfig(freeze=freeze))
            stop = jax.lax.stop_gradient
            free = jax.tree.map(lambda x, is_held: stop(x) if is_held else x, model, held)
            return loss(free, batch)

        ran = dot_flops(jax.value_and_grad(of_free), model, batch)
        return ran - dot_flops(loss, model, batch)

    assert backward("embeddings") == backward("nothing")
    assert backward("trunk") == FORWARD.head


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_on_blocks_counts_each_and_a_tied_head_is_frozen_with_the_embeddings(tied):
    model = dataclasses.replace(TINY, tied_embeddings=tied)
    blocks = dataclasses.replace(GRID, model=model, objective=ObjectiveConfig("causal_lm"))
    work, forward = Work(0, 108, 108, 0, 9), language_flops(TINY, 9)
    assert step_flops(blocks, work) == GRIDS * 4 * 3 * forward.total
    less = forward.first + (forward.head if tied else 0)
    assert step_flops(freezing(blocks, "embeddings"), work) == GRIDS * 4 * (
        3 * forward.total - less
    )
