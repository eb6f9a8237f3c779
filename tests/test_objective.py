import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rbs_jax.errors import UserError
from rbs_jax.objective import (
    ObjectiveConfig,
    grid_metrics,
    language_loss,
    objective,
    pair_wins,
    top1_wins,
)

REWARDS = jnp.array([[[1.0, 0.0, 3.0], [2.0, 2.0, -1.0], [0.5, 4.0, 1.5]]])
POSITIVE = jnp.array([[0, 1, 2]])
NEGATIVES = jnp.array([[[0, 1, 1], [1, 0, 0], [0, 0, 0]]], bool)
"""Row 0 has both negatives, row 1 only column 0 (a tie), row 2 none."""
EVERY_LOSS = pytest.mark.parametrize("loss", ["bradley_terry", "infonce"])


def softplus(x):
    return np.log1p(np.exp(x))


def logsumexp(*values):
    return np.log(np.exp(values).sum())


def gradient_of(config, rewards=REWARDS, positive=POSITIVE, negatives=NEGATIVES):
    """The loss without its parts, and its gradient by the rewards."""
    return jax.value_and_grad(lambda r: objective(r, positive, negatives, config)[0])(rewards)


def test_bradley_terry_and_centering_by_hand():
    loss, parts = objective(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig(centering=0.1))
    row0 = (softplus(0 - 1) + softplus(3 - 1)) / 2
    row1 = softplus(2 - 2)
    squares0 = ((1 + 0) + (1 + 9)) / 2
    squares1 = 4 + 4
    assert parts["bradley_terry"] == pytest.approx((row0 + row1) / 2)
    assert parts["centering"] == pytest.approx(0.1 * (squares0 + squares1) / 2)
    assert loss == pytest.approx((row0 + row1) / 2 + 0.1 * (squares0 + squares1) / 2)


def test_bradley_terry_with_a_margin_and_smoothing_by_hand():
    """A margin of 0.5 takes row 0's leads of 1 and -2 to 0.5 and -2.5, row 1's tie to -0.5."""
    lead_half, behind, tie = (
        0.9 * softplus(-lead) + 0.1 * softplus(lead) for lead in (0.5, -2.5, -0.5)
    )
    config = ObjectiveConfig(margin=0.5, label_smoothing=0.1)
    _, parts = objective(REWARDS, POSITIVE, NEGATIVES, config)
    assert parts["bradley_terry"] == pytest.approx(((lead_half + behind) / 2 + tie) / 2)
    _, parts = objective(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig(margin=0.5))
    expected = ((softplus(-0.5) + softplus(2.5)) / 2 + softplus(0.5)) / 2
    assert parts["bradley_terry"] == pytest.approx(expected)


def test_infonce_by_hand():
    _, parts = objective(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig("infonce"))
    row0 = logsumexp(1, 0, 3) - 1
    row1 = logsumexp(2, 2) - 2
    assert parts["infonce"] == pytest.approx((row0 + row1) / 2)


def test_infonce_with_a_margin_and_smoothing_by_hand():
    config = ObjectiveConfig("infonce", margin=0.5, label_smoothing=0.1)
    _, parts = objective(REWARDS, POSITIVE, NEGATIVES, config)
    row0 = logsumexp(0.5, 0, 3) - 0.9 * 0.5 - 0.1 * (0 + 3) / 2
    row1 = logsumexp(1.5, 2) - 0.9 * 1.5 - 0.1 * 2
    assert parts["infonce"] == pytest.approx((row0 + row1) / 2)


def test_centering_of_sums_by_hand():
    config = ObjectiveConfig(centering=0.1, centering_form="sum_square")
    loss, parts = objective(REWARDS, POSITIVE, NEGATIVES, config)
    row0 = ((1 + 0) ** 2 + (1 + 3) ** 2) / 2
    row1 = (2 + 2) ** 2
    assert parts["centering"] == pytest.approx(0.1 * (row0 + row1) / 2)
    assert loss == pytest.approx(float(parts["bradley_terry"] + parts["centering"]))


def test_centering_of_sums_leaves_opposite_scores_alone():
    opposite = jnp.array([[[3.0, -3.0], [5.0, -5.0]]])
    negatives = jnp.array([[[0, 1], [1, 0]]], bool)
    penalties = [
        objective(opposite, jnp.array([[0, 1]]), negatives, ObjectiveConfig(centering_form=form))
        for form in ("sum_square", "square")
    ]
    assert penalties[0][1]["centering"] == 0
    assert penalties[1][1]["centering"] == pytest.approx(0.01 * (18 + 50) / 2)


@EVERY_LOSS
def test_the_parts_are_the_preference_by_its_name_and_centering_and_sum_to_the_loss(loss):
    config = ObjectiveConfig(loss, centering=0.3)
    total, parts = objective(REWARDS, POSITIVE, NEGATIVES, config)
    assert set(parts) == {loss, "centering"}
    assert total == pytest.approx(float(parts[loss] + parts["centering"]))
    _, alone = objective(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig(loss, centering=0.0))
    assert alone["centering"] == 0
    assert alone[loss] == parts[loss]


def test_gradient_by_hand():
    _, gradient = gradient_of(ObjectiveConfig(centering=0.0))
    lose0, lose2 = (1 / (1 + np.exp(-behind)) / 4 for behind in (-1, 2))
    expected = [[-(lose0 + lose2), lose0, lose2], [0.25, -0.25, 0], [0, 0, 0]]
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-6)


def test_gradient_of_infonce_by_hand():
    _, gradient = gradient_of(ObjectiveConfig("infonce", centering=0.0))
    shares = np.exp([1, 0, 3]) / np.exp([1, 0, 3]).sum()
    expected = [(shares - [1, 0, 0]) / 2, [0.25, -0.25, 0], [0, 0, 0]]
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (2, 3, 4), elements=st.floats(-20, 20, width=32)),
    arrays(np.int32, (2, 3), elements=st.integers(0, 3)),
    arrays(np.int32, (2, 3), elements=st.integers(1, 3)),
    st.floats(0, 5),
    st.floats(0, 0.49),
)
def test_with_one_negative_a_row_infonce_is_bradley_terry(
    rewards, positive, steps, margin, smoothing
):
    negatives = jnp.arange(4) == jnp.asarray((positive + steps) % 4)[..., None]
    (one, by_one), (other, by_other) = (
        gradient_of(
            ObjectiveConfig(loss, margin, smoothing, centering=0.0),
            jnp.asarray(rewards),
            jnp.asarray(positive),
            negatives,
        )
        for loss in ("bradley_terry", "infonce")
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_one, by_other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["square", "sum_square"])
@EVERY_LOSS
def test_no_part_sees_a_reward_that_is_neither_true_nor_a_negative(loss, form):
    config = ObjectiveConfig(loss, 0.5, 0.1, centering=1.0, centering_form=form)
    unseen = ~(NEGATIVES | jnp.eye(3, dtype=bool)).at[:, 2].set(False)
    value, gradient = gradient_of(config)
    other, same = gradient_of(config, jnp.where(unseen, 50.0, REWARDS))
    assert other == value
    np.testing.assert_array_equal(same, gradient)
    assert not gradient[unseen].any()
    assert unseen.sum() == 4


@EVERY_LOSS
def test_far_apart_rewards_give_a_finite_loss_and_gradient(loss):
    config = ObjectiveConfig(loss, 1.0, 0.1, centering=0.0)
    for scale in (1e4, -1e4):
        value, gradient = gradient_of(config, scale * REWARDS)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label_smoothing": 0.5}, "objective.label_smoothing is 0.5"),
        ({"label_smoothing": -0.1}, "objective.label_smoothing is -0.1"),
        ({"label_smoothing": float("nan")}, "objective.label_smoothing is nan"),
        ({"margin": -1.0}, "objective.margin"),
        ({"margin": float("nan")}, "objective.margin"),
        ({"margin": float("inf")}, "objective.margin"),
        ({"centering": -0.01}, "objective.centering"),
        ({"centering": float("nan")}, "objective.centering"),
        ({"centering": float("inf")}, "objective.centering"),
    ],
)
def test_weights_out_of_range_are_refused_by_name(wrong, said):
    with pytest.raises(UserError, match=said):
        ObjectiveConfig(**wrong)


def test_weights_of_nothing_are_accepted():
    assert ObjectiveConfig(margin=0.0, label_smoothing=0.0, centering=0.0).centering == 0
    assert ObjectiveConfig(label_smoothing=0.49).label_smoothing == 0.49


def test_grids_are_averaged_whatever_their_number_of_rows():
    full = jnp.array([[[0, 1, 1], [1, 0, 1], [1, 1, 0]]], bool)
    one, _ = objective(REWARDS, POSITIVE, NEGATIVES, ObjectiveConfig())
    two, _ = objective(2 * REWARDS, POSITIVE, full, ObjectiveConfig())
    both, _ = objective(
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


def test_a_pair_is_won_lost_or_tied():
    wins = pair_wins(jnp.array([[[2.0, 1.0, 2.0, 3.0]]]), jnp.array([[0]]))
    assert wins.tolist() == [[[0.5, 1.0, 0.5, 0.0]]]


def test_metrics_of_a_grid_with_more_suffixes_than_prefixes():
    rewards = jnp.array([[[0.0, 1.0, 5.0, 2.0]]])
    negatives = jnp.array([[[1, 0, 0, 1]]], bool)
    metrics = grid_metrics(rewards, jnp.array([[2]]), negatives)
    assert metrics["pair_accuracy"] == metrics["top1"] == 1
    assert metrics["reward_spread"] == pytest.approx(np.std([0, 5, 2]))


def test_a_grid_of_one_prefix_with_a_negative_has_that_prefix_mean():
    one = NEGATIVES.at[:, 1].set(False)
    _, parts = objective(REWARDS, POSITIVE, one, ObjectiveConfig())
    assert parts["bradley_terry"] == pytest.approx((softplus(-1) + softplus(2)) / 2)


@EVERY_LOSS
def test_no_negatives_at_all_is_a_loss_of_zero_and_no_nan(loss):
    none = jnp.zeros_like(NEGATIVES)
    with jax.debug_nans(True):
        value, gradient = gradient_of(ObjectiveConfig(loss, 0.5, 0.1), negatives=none)
    assert value == 0
    assert not gradient.any()
    metrics = grid_metrics(REWARDS, POSITIVE, none)
    assert metrics.pop("rows_without_negatives") == 3
    assert np.isnan([float(m) for m in metrics.values()]).all(), "0 would read as always wrong"


@EVERY_LOSS
def test_a_grid_without_negatives_counts_for_nothing(loss):
    config = ObjectiveConfig(loss, 0.5, 0.1, centering=0.2)
    both = jnp.concatenate([NEGATIVES, jnp.zeros_like(NEGATIVES)])
    twice, positives = jnp.concatenate([REWARDS, REWARDS]), jnp.concatenate([POSITIVE, POSITIVE])
    alone, _ = objective(REWARDS, POSITIVE, NEGATIVES, config)
    assert objective(twice, positives, both, config)[0] == pytest.approx(alone)
    metrics = grid_metrics(REWARDS, POSITIVE, NEGATIVES)
    for name, value in grid_metrics(twice, positives, both).items():
        wanted = 4 if name == "rows_without_negatives" else metrics[name]
        assert value == pytest.approx(wanted), name


def test_a_reward_that_is_no_number_wins_nothing():
    rewards = jnp.array([[[jnp.nan, 0.0], [0.0, jnp.nan]]])
    positive, negatives = jnp.array([[0, 0]]), jnp.array([[[False, True], [False, True]]])
    assert not top1_wins(rewards, positive, negatives).any()
    assert not jnp.where(negatives, pair_wins(rewards, positive), 0).any()


@EVERY_LOSS
def test_rows_without_negatives_are_left_out_of_the_mean(loss):
    config = ObjectiveConfig(loss, 0.5, 0.1, centering=0.2)
    value, gradient = gradient_of(config)
    rows = (REWARDS[:, :2], POSITIVE[:, :2], NEGATIVES[:, :2])
    without, by_rows = gradient_of(config, *rows)
    assert value == pytest.approx(float(without))
    np.testing.assert_allclose(gradient[:, :2], by_rows, rtol=1e-6)
    assert not gradient[:, 2].any()


LOG_PROBS = jnp.array([[[-1.0, -2.0, -4.0], [-8.0, -16.0, -32.0]]])
TARGETS = jnp.array([[[1, 0, 1], [0, 0, 1]]], bool)


def test_the_language_loss_is_a_mean_over_targets_not_over_blocks():
    loss, gradient = jax.value_and_grad(language_loss)(LOG_PROBS, TARGETS, jnp.array(3))
    assert loss == pytest.approx((1 + 4 + 32) / 3)
    np.testing.assert_allclose(gradient, TARGETS / -3, rtol=1e-6)


def test_the_language_loss_sees_no_token_that_is_no_target():
    other = jnp.where(TARGETS, LOG_PROBS, jnp.nan)
    assert language_loss(other, TARGETS, jnp.array(3)) == language_loss(
        LOG_PROBS, TARGETS, jnp.array(3)
    )


def test_the_language_loss_of_a_single_target_is_its_own_and_of_none_is_zero():
    assert language_loss(LOG_PROBS, TARGETS.at[:, 0].set(False), jnp.array(1)) == 32
    with jax.debug_nans(True):
        none, zero = jnp.zeros_like(TARGETS), jnp.array(0)
        loss, gradient = jax.value_and_grad(language_loss)(LOG_PROBS, none, zero)
    assert loss == 0
    assert not gradient.any()
