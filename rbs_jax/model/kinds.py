"""The two kinds of model, and what can be asked of either."""

import jax
from jaxtyping import Array, Float

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.language import LanguageModel, likelihood_grid
from rbs_jax.model.reward import RewardModel, score_grid
from rbs_jax.shapes import TokenGrid

Model = RewardModel | LanguageModel


def grid_scores(model: Model, grid: TokenGrid) -> Float[Array, "G P S"]:
    """Every suffix after every prefix: its reward, or by a language model its likelihood."""
    return (
        score_grid(model, grid) if isinstance(model, RewardModel) else likelihood_grid(model, grid)
    )


def fresh(kind: type[Model], seed: int, config: TransformerConfig) -> Model:
    """Fresh weights, each born on its devices; the ambient mesh says which."""
    return jax.jit(kind, static_argnums=1)(jax.random.key(seed), config)


def shapes_of(kind: type[Model], config: TransformerConfig) -> Model:
    """The model without its arrays, each a shape, a dtype and a sharding on the ambient mesh."""
    return jax.eval_shape(lambda: kind(jax.random.key(0), config))
