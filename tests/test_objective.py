import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.objective import ObjectiveConfig, bradley_terry, grid_metrics

REWARDS = jnp.array([[[1.0, 0.0, 3.0], [2.0, 2.0, -1.0], [0.5, 4.0, 1.5]]])
POSITIVE = jnp.array([[0, 1, 2]])
NEGATIVES = jnp.array([[[0, 1, 1], [1, 0, 0], [0, 0, 0]]], bool)
"""Row 0 has both negatives, row 1 only column 0 (a tie), row 2 none."""


def softplus(x):
    return np.log1p(np.exp(x))


def test_bradley_terry_and_centering_by_hand():
    loss, parts = bradley_terry(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig(centering=0.1))
    row0 = (softplus(0 - 1) + softplus(3 - 1)) / 2
    row1 = softplus(2 - 2)
    squares0 = ((1 + 0) + (1 + 9)) / 2
    squares1 = 4 + 4
    assert parts["bradley_terry"] == pytest.approx((row0 + row1) / 2)
    assert parts["centering"] == pytest.approx(0.1 * (squares0 + squares1) / 2)
    assert loss == pytest.approx((row0 + row1) / 2 + 0.1 * (squares0 + squares1) / 2)


def test_gradient_by_hand():
    gradient = jax.grad(lambda r: bradley_terry(r, POSITIVE, NEGATIVES, ObjectiveConfig(0.0))[0])(
        REWARDS
    )
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    lose0, lose2 = sigmoid(-1) / 4, sigmoid(2) / 4
    expected = [[-(lose0 + lose2), lose0, lose2], [0.25, -0.25, 0], [0, 0, 0]]
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-6)


def test_grids_are_averaged_whatever_their_number_of_rows():
    full = jnp.array([[[0, 1, 1], [1, 0, 1], [1, 1, 0]]], bool)
    one, _ = bradley_terry(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig())
    two, _ = bradley_terry(2 * REWARDS, POSITIVE, full, ObjectiveConfig())
    both, _ = bradley_terry(
        jnp.concatenate([REWARDS, 2 * REWARDS]),
        jnp.concatenate([POSITIVE, POSITIVE]),
        jnp.concatenate([NEGATIVES, full]),
        ObjectiveConfig(),
    )
    assert both == pytest.approx((one + two) / 2)


def test_metrics_by_hand():
    metrics = grid_metrics(REWARDS, POSITIVE, NEGATIVES)
    assert metrics["pair_accuracy"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert metrics["top1"] == pytest.approx((0 + 1 / 2) / 2)
    assert metrics["reward_positive"] == pytest.approx((1 + 2) / 2)
    assert metrics["reward_negative"] == pytest.approx((1.5 + 2) / 2)
    assert metrics["reward_spread"] == pytest.approx((np.std([1, 0, 3]) + 0) / 2)
    assert metrics["rows_without_negatives"] == 1


def test_no_negatives_at_all_is_a_loss_of_zero_and_no_nan():
    none = jnp.zeros_like(NEGATIVES)
    value, gradient = jax.value_and_grad(
        lambda r: bradley_terry(r, POSITIVE, none, ObjectiveConfig())[0]
    )(REWARDS)
    assert value == 0
    assert not gradient.any()
    assert np.isfinite([float(m) for m in grid_metrics(REWARDS, POSITIVE, none).values()]).all()
