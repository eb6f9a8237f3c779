"""The useful operations of a run's step."""

from rbs_jax.data.stream import Work
from rbs_jax.experiment import Experiment
from rbs_jax.model.flops import Flops, GridShape, grid_flops, language_flops
from rbs_jax.model.language import LanguageModel


def step_flops(experiment: Experiment, work: Work) -> int:
    """What all devices together must compute in one step, and nothing else [operations].

    The forward pass, and as much again for the gradients of weights and of inputs each,
    less those that what is frozen does without. All suffixes of a grid count under all
    its prefixes, whichever are drawn as negatives. Padding does not count: a prefix has
    its mean length, so where breakpoints move this is below the mean of the exact counts
    (attention's grow with the square). The optimizer does not count.
    """
    model, grid = experiment.model, experiment.grid
    of_blocks = experiment.kind is LanguageModel
    if of_blocks:
        forward = language_flops(model, work.suffix_length).times(grid.prefixes)
    else:
        shape = GridShape(grid.prefixes, grid.prefixes, work.prefix_length, work.suffix_length)
        forward = grid_flops(model, shape)
    head_is_embedding = of_blocks and model.tied_embeddings
    return grid.grids_per_step * _trained(forward, experiment.optim.freeze, head_is_embedding)


def _trained(forward: Flops, freeze: str, head_is_embedding: bool) -> int:
    if freeze == "trunk":
        return forward.total + forward.head
    unneeded = 0
    if freeze == "embeddings":
        unneeded = forward.first + (forward.head if head_is_embedding else 0)
    return 3 * forward.total - unneeded
