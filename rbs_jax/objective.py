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


def row_weights(negatives_GPS: Bool[Array, "G P S"]) -> Float[Array, "G P"]:
    """What each prefix's loss counts for: the same within a grid, grids alike, 1 in all.

    Prefixes without negatives count for nothing, and so do grids without any other.
    """
    valid_GP = negatives_GPS.any(axis=-1)
    per_grid_G = jnp.maximum(valid_GP.sum(axis=-1, keepdims=True), 1)
    return valid_GP / per_grid_G / jnp.maximum(valid_GP.any(axis=-1).sum(), 1)


def weighted_sum(w: Float[Array, "*GPS"], x: Float[Array, "*GPS"]) -> Float[Array, ""]:
    """The sum of w x over what has weight; whatever stands elsewhere is not read."""
    return (w * jnp.where(w > 0, x, 0)).sum()


def objective(
    r_GPS: Float[Array, "G P S"],
    positive_GP: Int[Array, "G P"],
    negatives_GPS: Bool[Array, "G P S"],
    config: ObjectiveConfig,
    w_GP: Float[Array, "G P"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Every true suffix against its prefix's negatives, and the centering penalty.

    Both are means over the prefixes of a grid that have any negative, then over
    grids; prefixes without one count for nothing (`grid_metrics` counts them).
    Where these are some prefixes of larger grids, `w` says what they count for.

    Returns:
      The loss, and its two parts: the preference by the loss's name, and `centering`.
    """
    w_GP = row_weights(negatives_GPS) if w_GP is None else w_GP
    s_GP = positive_rewards(r_GPS, positive_GP)
    if config.loss == "infonce":
        preference_GP = infonce(r_GPS, s_GP, negatives_GPS, config)
    else:
        preference_GP = row_mean(bradley_terry(r_GPS, s_GP, config), negatives_GPS)
    penalty_GP = row_mean(centering(r_GPS, s_GP, config), negatives_GPS)
    preference = weighted_sum(w_GP, preference_GP)
    penalty = config.centering * weighted_sum(w_GP, penalty_GP)
    return preference + penalty, {config.loss: preference, "centering": penalty}


def pair_weights(
    w_GP: Float[Array, "G P"], negatives_GPS: Bool[Array, "G P S"]
) -> Float[Array, "G P S"]:
    """What each pair counts for in the objective, where its prefix counts for `w`."""
    return w_GP[..., None] * negatives_GPS / jnp.maximum(negatives_GPS.sum(-1, keepdims=True), 1)


def pairs_objective(
    r_GPS: Float[Array, "G P S"],
    s_GP: Float[Array, "G P"],
    w_GPS: Float[Array, "G P S"],
    config: ObjectiveConfig,
) -> Float[Array, ""]:
    """What some suffixes add to a Bradley-Terry objective, given the true suffixes' rewards."""
    loss_GPS = bradley_terry(r_GPS, s_GP, config) + config.centering * centering(
        r_GPS, s_GP, config
    )
    return weighted_sum(w_GPS, loss_GPS)


def bradley_terry(
    r_GPS: Float[Array, "G P S"], s_GP: Float[Array, "G P"], config: ObjectiveConfig
) -> Float[Array, "G P S"]:
    """Each negative alone against the true suffix (arXiv:2603.02225, its page and code).

    With s_i the reward of prefix i's true suffix, s_ij that of its negative j,
    margin m (arXiv:2307.09288) and smoothing e (arXiv:1512.00567):

        z_ij = s_i - s_ij - m
        loss_ij = (1 - e) softplus(-z_ij) + e softplus(z_ij)

    A prefix's loss is the mean over its negatives.
    """
    z_GPS = s_GP[..., None] - r_GPS - config.margin
    win_GPS, lose_GPS = jax.nn.softplus(-z_GPS), jax.nn.softplus(z_GPS)
    return (1 - config.label_smoothing) * win_GPS + config.label_smoothing * lose_GPS


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


def centering(
    r_GPS: Float[Array, "G P S"], s_GP: Float[Array, "G P"], config: ObjectiveConfig
) -> Float[Array, "G P S"]:
    """What keeps scores near zero, for each pair; a prefix's is the mean over its negatives.

        square:      s_i^2 + s_ij^2      (arXiv:2603.02225: no factor 1/2)
        sum_square:  (s_i + s_ij)^2      (arXiv:2312.09244; TRL and EasyDeL)

    `square` shrinks every score; `sum_square` leaves s_i = -s_ij free to grow.
    """
    s_GPS = s_GP[..., None]
    if config.centering_form == "square":
        return jnp.square(s_GPS) + jnp.square(r_GPS)
    return jnp.square(s_GPS + r_GPS)


def language_loss(
    log_probs_GPT: Float[Array, "G P T"],
    is_target_GPT: Bool[Array, "G P T"],
    targets: Int[Array, ""],
) -> Float[Array, ""]:
    """What blocks add to the mean cross-entropy of the next token over a step [nats].

    Args:
      log_probs_GPT: of each token of the blocks, given those before it in its document.
      is_target_GPT: which of them count; a document's first has nothing before it.
      targets: how many count in all blocks of the step.
    """
    return -jnp.where(is_target_GPT, log_probs_GPT, 0).sum() / jnp.maximum(targets, 1)


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
    w_GP = row_weights(negatives_GPS)
    means = {
        name: jnp.where(valid_GP.any(), weighted_sum(w_GP, x_GP), jnp.nan)
        for name, x_GP in by_row.items()
    }
    return means | {"rows_without_negatives": (~valid_GP).sum()}
