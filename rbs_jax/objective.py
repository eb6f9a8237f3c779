"""Losses over score grids, and what to watch beside them.

Nothing here knows the model: an objective sees rewards [G, P, S], the column
of each prefix's true suffix, and which suffixes count as its negatives.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Bradley-Terry over the grid with score centering (arXiv:2603.02225)."""

    centering: float = 0.01
    """Weight of the mean squared reward that keeps scores near zero; 0 for none."""


def positive_rewards(r_GPS: Float[Array, "G P S"], positive_GP: Int[Array, "G P"]) -> Array:
    """The reward of each prefix's true suffix [G, P]."""
    is_positive = jnp.arange(r_GPS.shape[-1]) == positive_GP[..., None]
    return jnp.where(is_positive, r_GPS, 0).sum(axis=-1)


def row_mean(x_GPS: Float[Array, "G P S"], mask_GPS: Bool[Array, "G P S"]) -> Array:
    """Mean over each prefix's masked suffixes [G, P]; 0 where there is none."""
    total = jnp.where(mask_GPS, x_GPS, 0).sum(axis=-1)
    return total / jnp.maximum(mask_GPS.sum(axis=-1), 1)


def grid_mean(x_GP: Float[Array, "G P"], valid_GP: Bool[Array, "G P"]) -> Float[Array, ""]:
    """Mean over the grids of the mean over each grid's valid prefixes."""
    per_grid = jnp.where(valid_GP, x_GP, 0).sum(axis=-1) / jnp.maximum(valid_GP.sum(axis=-1), 1)
    return per_grid.mean()


def bradley_terry(
    r_GPS: Float[Array, "G P S"],
    positive_GP: Int[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
    config: ObjectiveConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Every true suffix against the other suffixes of its prefix.

    With s_i the reward of prefix i's true suffix and s_ij that of negative j:

        loss = mean_i mean_j [ softplus(s_ij - s_i) + c (s_i^2 + s_ij^2) ]

    the mean over j taken over the prefix's negatives, over i over prefixes that
    have any, then over grids (arXiv:2603.02225 with its square centering: no
    factor 1/2, no subtraction of the batch's mean).

    Returns:
      The loss, and `bradley_terry` and `centering`, its two parts.
    """
    s_GP = positive_rewards(r_GPS, positive_GP)
    valid_GP = negatives_GPS.any(axis=-1)
    pairs_GPS = jax.nn.softplus(r_GPS - s_GP[..., None])
    squares_GPS = jnp.square(s_GP)[..., None] + jnp.square(r_GPS)
    preference = grid_mean(row_mean(pairs_GPS, negatives_GPS), valid_GP)
    centering = config.centering * grid_mean(row_mean(squares_GPS, negatives_GPS), valid_GP)
    return preference + centering, {"bradley_terry": preference, "centering": centering}


def pair_wins(
    r_GPS: Float[Array, "G P S"], positive_GP: Int[Array, "G P"]
) -> Float[Array, "G P S"]:
    """1 where the true suffix scores above this one, 1/2 at a tie, 0 below."""
    s_GPS = positive_rewards(r_GPS, positive_GP)[..., None]
    return (s_GPS > r_GPS) + 0.5 * (s_GPS == r_GPS)


def top1_wins(
    r_GPS: Float[Array, "G P S"],
    positive_GP: Int[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
) -> Float[Array, "G P"]:
    """1 where the true suffix scores above all negatives, 1/k where k share the top, else 0."""
    s_GPS = positive_rewards(r_GPS, positive_GP)[..., None]
    beaten = (negatives_GPS & (r_GPS > s_GPS)).any(axis=-1)
    tied = (negatives_GPS & (r_GPS == s_GPS)).sum(axis=-1)
    return jnp.where(beaten, 0.0, 1.0 / (1 + tied))


def grid_metrics(
    r_GPS: Float[Array, "G P S"],
    positive_GP: Int[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
) -> Metrics:
    """What to watch in training, each a mean over prefixes that have negatives.

    `pair_accuracy` and `top1` as above; `reward_positive` and `reward_negative`
    are mean rewards; `reward_spread` is the standard deviation of the rewards
    within a prefix, over its true suffix and negatives; `rows_without_negatives`
    counts the prefixes left out.
    """
    s_GP = positive_rewards(r_GPS, positive_GP)
    valid_GP = negatives_GPS.any(axis=-1)
    own_GPS = negatives_GPS | (jnp.arange(r_GPS.shape[-1]) == positive_GP[..., None])
    deviation_GPS = r_GPS - row_mean(r_GPS, own_GPS)[..., None]
    spread_GP = jnp.sqrt(row_mean(jnp.square(deviation_GPS), own_GPS))
    wins_GP = row_mean(pair_wins(r_GPS, positive_GP), negatives_GPS)
    return {
        "pair_accuracy": grid_mean(wins_GP, valid_GP),
        "top1": grid_mean(top1_wins(r_GPS, positive_GP, negatives_GPS), valid_GP),
        "reward_positive": grid_mean(s_GP, valid_GP),
        "reward_negative": grid_mean(row_mean(r_GPS, negatives_GPS), valid_GP),
        "reward_spread": grid_mean(spread_GP, valid_GP),
        "rows_without_negatives": (~valid_GP).sum(),
    }
