"""Losses over score grids, the language loss, and what to watch beside them.

Nothing here knows the model: an objective sees rewards [G, P, S], the column
of each prefix's true suffix, and which suffixes count as its negatives.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rbs_jax.errors import UserError

Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What the true suffix should do to the others: Bradley-Terry with centering by default."""

    loss: Literal["bradley_terry", "infonce", "causal_lm"] = "bradley_terry"
    """Each negative alone against the true suffix, or all of a row at once; or no suffixes at
    all: the next token of packed blocks, which makes a language model, to start others from."""
    margin: float = 0.0
    """How far the true suffix should score above a negative [reward]."""
    label_smoothing: float = 0.0
    """Share of the label given to the negatives, at least 0 and below 1/2."""
    centering: float = 0.01
    """Weight of the penalty that keeps scores near zero; 0 for none."""
    centering_form: Literal["square", "sum_square"] = "square"
    """Penalise each score's square, or the square of a pair's sum."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise UserError(
                f"objective.label_smoothing is {self.label_smoothing}, "
                "it must be at least 0 and below 0.5"
            )
        for name in ("margin", "centering"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(
                    f"objective.{name} is {getattr(self, name)}, it must be finite and at least 0"
                )


def positive_rewards(r_GPS: Float[Array, "G P S"], positive_GP: Int[Array, "G P"]) -> Array:
    """The reward of each prefix's true suffix [G, P]."""
    is_positive = jnp.arange(r_GPS.shape[-1]) == positive_GP[..., None]
    return jnp.where(is_positive, r_GPS, 0).sum(axis=-1)


def row_mean(x_GPS: Float[Array, "G P S"], mask_GPS: Bool[Array, "G P S"]) -> Array:
    """Mean over each prefix's masked suffixes [G, P]; 0 where there is none."""
    total = jnp.where(mask_GPS, x_GPS, 0).sum(axis=-1)
    return total / jnp.maximum(mask_GPS.sum(axis=-1), 1)


def grid_mean(x_GP: Float[Array, "G P"], valid_GP: Bool[Array, "G P"]) -> Float[Array, ""]:
    """Mean over the grids of the mean over each grid's valid prefixes; 0 where there is none.

    A grid without a valid prefix counts for nothing.
    """
    per_grid = jnp.where(valid_GP, x_GP, 0).sum(axis=-1) / jnp.maximum(valid_GP.sum(axis=-1), 1)
    return per_grid.sum() / jnp.maximum(valid_GP.any(axis=-1).sum(), 1)


def objective(
    r_GPS: Float[Array, "G P S"],
    positive_GP: Int[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
    config: ObjectiveConfig,
) -> tuple[Float[Array, ""], Metrics]:
    """Every true suffix against its prefix's negatives, and the centering penalty.

    Both are means over the prefixes of a grid that have any negative, then over
    grids; prefixes without one count for nothing (`grid_metrics` counts them).

    Returns:
      The loss, and its two parts: the preference by the loss's name, and `centering`.
    """
    s_GP = positive_rewards(r_GPS, positive_GP)
    valid_GP = negatives_GPS.any(axis=-1)
    preference_GP = LOSSES[config.loss](r_GPS, s_GP, negatives_GPS, config)
    penalty_GP = centering(r_GPS, s_GP, negatives_GPS, config)
    preference = grid_mean(preference_GP, valid_GP)
    penalty = config.centering * grid_mean(penalty_GP, valid_GP)
    return preference + penalty, {config.loss: preference, "centering": penalty}


def bradley_terry(
    r_GPS: Float[Array, "G P S"],
    s_GP: Float[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
    config: ObjectiveConfig,
) -> Float[Array, "G P"]:
    """Each negative alone against the true suffix (arXiv:2603.02225, its page and code).

    With s_i the reward of prefix i's true suffix, s_ij that of its negative j,
    margin m (arXiv:2307.09288) and smoothing e (arXiv:1512.00567):

        z_ij = s_i - s_ij - m
        loss_i = mean_j [ (1 - e) softplus(-z_ij) + e softplus(z_ij) ]
    """
    z_GPS = s_GP[..., None] - r_GPS - config.margin
    win_GPS, lose_GPS = jax.nn.softplus(-z_GPS), jax.nn.softplus(z_GPS)
    smoothed_GPS = (1 - config.label_smoothing) * win_GPS + config.label_smoothing * lose_GPS
    return row_mean(smoothed_GPS, negatives_GPS)


def infonce(
    r_GPS: Float[Array, "G P S"],
    s_GP: Float[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
    config: ObjectiveConfig,
) -> Float[Array, "G P"]:
    """The true suffix against all negatives of its row at once (arXiv:1807.03748).

    With s_i, s_ij, m and e as in `bradley_terry`, at temperature 1:

        n_i = logsumexp over j of (s_i - m, s_i1, s_i2, ...)
        loss_i = n_i - (1 - e) (s_i - m) - e mean_j s_ij

    With one negative it equals Bradley-Terry, whatever the margin and smoothing.
    """
    own_GP = s_GP - config.margin
    # A finite floor: a row without negatives would make -inf - -inf on the way.
    others_GPS = jnp.where(negatives_GPS, r_GPS, jnp.finfo(r_GPS.dtype).min)
    total_GP = jnp.logaddexp(own_GP, jax.nn.logsumexp(others_GPS, axis=-1))
    smoothed_GP = config.label_smoothing * row_mean(r_GPS, negatives_GPS)
    return total_GP - (1 - config.label_smoothing) * own_GP - smoothed_GP


LOSSES = {"bradley_terry": bradley_terry, "infonce": infonce}


def centering(
    r_GPS: Float[Array, "G P S"],
    s_GP: Float[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
    config: ObjectiveConfig,
) -> Float[Array, "G P"]:
    """What keeps scores near zero, as a mean over the prefix's negatives.

        square:      mean_j [ s_i^2 + s_ij^2 ]    (arXiv:2603.02225: no factor 1/2)
        sum_square:  mean_j [ (s_i + s_ij)^2 ]    (arXiv:2312.09244; TRL and EasyDeL)

    `square` shrinks every score; `sum_square` leaves s_i = -s_ij free to grow.
    """
    s_GPS = s_GP[..., None]
    if config.centering_form == "square":
        return row_mean(jnp.square(s_GPS) + jnp.square(r_GPS), negatives_GPS)
    return row_mean(jnp.square(s_GPS + r_GPS), negatives_GPS)


def language_loss(
    log_probs_GPT: Float[Array, "G P T"], is_target_GPT: Bool[Array, "G P T"]
) -> Float[Array, ""]:
    """The mean cross-entropy of the next token, over the targets of a step [nats]; 0 without any.

    Args:
      log_probs_GPT: of each token of the blocks, given those before it in its document.
      is_target_GPT: which of them count; a document's first has nothing before it.
    """
    total = jnp.where(is_target_GPT, log_probs_GPT, 0).sum()
    return -total / jnp.maximum(is_target_GPT.sum(), 1)


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
    beaten = (negatives_GPS & ~(s_GPS >= r_GPS)).any(axis=-1)  # by a NaN too
    tied = (negatives_GPS & (r_GPS == s_GPS)).sum(axis=-1)
    return jnp.where(beaten, 0.0, 1.0 / (1 + tied))


def grid_metrics(
    r_GPS: Float[Array, "G P S"],
    positive_GP: Int[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
) -> Metrics:
    """What to watch in training, each a mean over prefixes that have negatives; NaN without any.

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
    by_row = {
        "pair_accuracy": wins_GP,
        "top1": top1_wins(r_GPS, positive_GP, negatives_GPS),
        "reward_positive": s_GP,
        "reward_negative": row_mean(r_GPS, negatives_GPS),
        "reward_spread": spread_GP,
    }
    means = {
        name: jnp.where(valid_GP.any(), grid_mean(x_GP, valid_GP), jnp.nan)
        for name, x_GP in by_row.items()
    }
    return means | {"rows_without_negatives": (~valid_GP).sum()}
