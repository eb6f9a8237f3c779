import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.errors import UserError
from rbs_jax.model.reward import RewardModel
from rbs_jax.optim import OptimConfig, learning_rate, make_optimizer
from tests.tiny import TINY


def test_warms_up_from_zero_then_stays():
    rate = learning_rate(
        OptimConfig(learning_rate=0.4, warmup_steps=4), steps=100, updates_per_step=1
    )
    assert [float(rate(step)) for step in (0, 1, 2, 4, 50)] == pytest.approx(
        [0, 0.1, 0.2, 0.4, 0.4]
    )


def test_cosine_ends_at_a_tenth_after_the_last_step():
    rate = learning_rate(
        OptimConfig(0.4, warmup_steps=10, schedule="cosine"), steps=110, updates_per_step=1
    )
    assert [float(rate(step)) for step in (10, 60, 110)] == pytest.approx([0.4, 0.22, 0.04])


def test_no_warmup_starts_at_the_peak():
    rate = learning_rate(OptimConfig(0.4, warmup_steps=0), steps=10, updates_per_step=1)
    assert float(rate(0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": -1.0},
        {"beta1": 1.0},
        {"beta2": 1.0},
        {"beta1": -0.1},
        {"warmup_steps": -1},
        {"clip_norm": 0.0},
        {"clip_norm": float("nan")},
        {"learning_rate": float("inf")},
        {"weight_decay": -0.1},
        {"eps": 0.0},
        {"prefixes_per_update": 0},
    ],
)
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        OptimConfig(**wrong)


def test_the_smallest_of_each_setting_are_accepted():
    OptimConfig(beta1=0.0, beta2=0.0, weight_decay=0.0)
    with pytest.raises(UserError, match=r"weight_decay is .*, it must be finite and at least 0"):
        OptimConfig(weight_decay=-1.0)
    with pytest.raises(UserError, match=r"eps is .*, it must be finite and positive"):
        OptimConfig(eps=0.0)


def rates(updates, steps=4, per_step=3, **config):
    rate = learning_rate(OptimConfig(0.6, **config), steps, per_step)
    return [round(float(rate(update)), 6) for update in updates]


def test_counted_in_steps_all_updates_of_a_step_share_a_rate_that_starts_at_zero():
    assert rates(range(9), warmup_steps=2) == [0, 0, 0, 0.3, 0.3, 0.3, 0.6, 0.6, 0.6]


def test_counted_in_updates_the_rate_moves_with_each():
    counted = rates(range(9), warmup_steps=6, warmup_counts="updates")
    assert counted == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6])


@pytest.mark.parametrize(("counts", "last"), [("steps", 4 * 3), ("updates", 4 * 3)])
def test_a_cosine_ends_with_the_run_whatever_it_counts(counts, last):
    config = {"warmup_steps": 0, "schedule": "cosine", "warmup_counts": counts}
    assert rates([0, last // 2, last], **config) == pytest.approx([0.6, 0.33, 0.06])


@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_norm_scales_and_biases_decay_only_where_all_do(mesh, decay):
    family = dataclasses.replace(TINY, qkv_bias=True, qk_norm=True)
    model = jax.jit(lambda: jax.tree.map(jnp.ones_like, RewardModel(jax.random.key(0), family)))()
    config = OptimConfig(0.5, warmup_steps=0, weight_decay=0.1, decay=decay)
    optimizer = make_optimizer(config, steps=1, updates_per_step=1)
    nothing = jax.tree.map(jnp.zeros_like, model)
    updates, _ = optimizer.update(nothing, optimizer.init(model), model)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        name = jax.tree_util.keystr(path)
        is_matrix = not any(part in name for part in ("norm", "bias"))
        decays = decay == "all" or is_matrix
        np.testing.assert_allclose(update, -0.05 if decays else 0, rtol=1e-6, err_msg=name)
