import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.choose.ensembles import mean, uncertainty_weighted, worst
from rbs_jax.choose.rule import highest
from rbs_jax.choose.table import RULES
from rbs_jax.choose.transforms import log_sigmoid, par
from tests.choose.drawn import INF, scores

FUNCTIONS = {
    "mean": mean,
    "worst": worst,
    "uncertainty_weighted": uncertainty_weighted,
    "log_sigmoid": log_sigmoid,
    "par": par,
}


def pick(name, drawn, seed=0):
    return RULES[name].choose(drawn, np.random.default_rng(seed))


@pytest.mark.parametrize("name", RULES)
@settings(deadline=None)
@given(scores(draws=(2,), missing=True))
def test_chances_are_of_those_with_scores_and_sum_to_one(name, drawn):
    chances = pick(name, drawn)
    assert (chances >= 0).all()
    assert chances.sum(axis=-1) == pytest.approx([1, 1])
    whole = (drawn > -INF).all(axis=-2)
    assert not chances[~whole & whole.any(axis=-1, keepdims=True)].any()


@pytest.mark.parametrize("name", RULES)
@settings(deadline=None)
@given(scores(models=st.just(1), draws=(3,), missing=True), st.integers(0, 9))
def test_with_one_model_every_rule_is_the_argmax(name, drawn, seed):
    best = highest(drawn[:, 0])
    chances = pick(name, drawn, seed)
    assert np.array_equal(chances > 0, best > 0)
    if name != "knockout":  # where a bracket says who of equals plays whom, and who has byes
        assert chances == pytest.approx(best)


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"knockout"}))
@settings(deadline=None)
@given(scores(draws=(2, 2), missing=True))
def test_a_batch_is_each_by_itself(name, drawn):
    chances = pick(name, drawn)
    for at in np.ndindex(2, 2):
        assert np.array_equal(chances[at], pick(name, drawn[at]))


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"knockout"}))
@settings(deadline=None)
@given(st.permutations(range(5)), st.integers(0, 99))
def test_candidates_in_another_order_are_picked_as_before(name, order, seed):
    drawn = np.random.default_rng(seed).normal(size=(3, 5))
    assert np.array_equal(pick(name, drawn[:, order]), pick(name, drawn)[order])


@pytest.mark.parametrize("name", RULES)
def test_values_are_given_where_they_are_the_choice(name):
    drawn = np.random.default_rng(0).normal(size=(4, 3, 6))
    values = RULES[name].values
    assert values is FUNCTIONS.get(name)
    if values:
        assert np.array_equal(highest(values(drawn)), pick(name, drawn))


def test_the_seed_is_all_that_chance_hangs_on():
    cycle = np.tile(np.array([[3.0, 2, 1], [1, 3, 2], [2, 1, 3]]), (50, 1, 1))
    chances = pick("knockout", cycle)
    assert np.array_equal(chances, pick("knockout", cycle))
    assert not np.array_equal(chances, pick("knockout", cycle, seed=1))
    assert (chances.sum(axis=0) > 5).all()  # each has its bracket
    assert RULES["mean"].about.startswith("the highest mean")
