"""The losses of a batch as plain functions of the model, whole."""

from rbs_jax.model.language import next_token_log_probs
from rbs_jax.model.reward import score_grid
from rbs_jax.objective import language_loss, objective
from rbs_jax.train.tile import is_target


def loss_and_rewards(model, batch, config):
    r_GPS = score_grid(model, batch.tokens)
    return objective(r_GPS, batch.positive, batch.negatives, config)[0], r_GPS


def loss_and_targets(model, blocks):
    counted = is_target(blocks)
    return language_loss(next_token_log_probs(model, blocks), counted, counted.sum()), counted.sum()
