import numpy as np
import pytest

from rbs_jax.statistics import figures
from rbs_jax.statistics.figures import (
    DRAWS,
    Group,
    by_counts,
    interval,
    mean,
    mean_of,
    resampled,
    weighted_sum,
)


def test_a_weighted_sum_of_means():
    groups = {"a": Group(np.array([1.0, 0.0]), ["x", "y"]), "b": Group(np.array([1.0]), ["z"])}
    assert mean(groups, {"a": 0.5, "b": 0.25}) == 0.5


def test_weights_of_weights():
    by_rows = by_counts({"a": 1, "b": 3})
    assert by_rows == {"a": 0.25, "b": 0.75}
    assert mean_of([by_rows, {"b": 1.0}]) == {"a": 0.125, "b": 0.875}
    assert weighted_sum([(2.0, by_rows), (-1.0, {"a": 0.5, "c": 1.0})]) == {
        "a": 0.0,
        "b": 1.5,
        "c": -1.0,
    }


def test_the_interval_is_that_of_a_mean_of_independent_prompts():
    values = np.random.default_rng(0).normal(size=400)
    group = {"a": Group(values, [str(i) for i in range(400)])}
    low, high = interval(resampled(group), {"a": 1.0})
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.008)
    assert high == pytest.approx(values.mean() + half, abs=0.008)


def test_values_of_one_prompt_are_drawn_together():
    values = np.random.default_rng(0).normal(size=100)
    once = {"a": Group(values, [str(i) for i in range(100)])}
    often = {"a": Group(np.repeat(values, 9), [str(i) for i in range(100) for _ in range(9)])}
    assert interval(resampled(often), {"a": 1.0}) == pytest.approx(
        interval(resampled(once), {"a": 1.0})
    )


def test_draws_of_groups_are_paired():
    values, units = np.random.default_rng(0).normal(size=50), [str(i) for i in range(50)]
    both = resampled({"a": Group(values, units), "b": Group(values + 1, units)})
    np.testing.assert_allclose(both["b"] - both["a"], np.ones(DRAWS), rtol=1e-5)
    other = resampled({"c": Group(2 * values, units)})
    np.testing.assert_allclose(other["c"], 2 * both["a"], rtol=1e-5)


def test_one_prompt_has_no_interval():
    group = {"a": Group(np.array([1.0, 0.0]), ["x", "x"])}
    assert interval(resampled(group), {"a": 1.0}) is None


def test_a_draw_without_a_group_counts_for_nothing():
    groups = {"a": Group(np.ones(1), ["x"]), "b": Group(np.zeros(1), ["y"])}
    drawn = resampled(groups)
    assert 0 < np.isnan(drawn["a"]).sum() < DRAWS
    assert interval(drawn, {"a": 1.0}) == [1.0, 1.0]


def test_the_draws_are_the_same_in_every_process():
    group = {"a": Group(np.arange(9.0), [str(i) for i in range(9)])}
    before = interval(resampled(group), {"a": 1.0})
    figures._draws.cache_clear()
    assert interval(resampled(group), {"a": 1.0}) == before
