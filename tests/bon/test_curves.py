from collections import Counter
from functools import partial
from itertools import combinations

import numpy as np
import pytest

from rbs_jax.bon.curves import (
    by_chance,
    by_majority,
    by_rule,
    by_value,
    by_weighted_majority,
    curve,
    sizes,
)
from rbs_jax.choose.rule import Rule, highest
from rbs_jax.choose.table import RULES
from tests.bon.made import pool, random_pools


def correct(pool):
    return pool.known.correct


def means(found):
    return {int(n): group.values.mean() for n, group in found.groups.items()}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([5, 3], [1, 2, 4, 5]), ([8], [1, 2, 4, 8]), ([1], [1]), ([0], []), ([], []), ([2], [1, 2])],
)
def test_sizes_are_powers_of_two_and_the_most_there_is(counts, expected):
    assert sizes([pool(np.zeros(count)) for count in counts]) == expected


def test_a_curve_is_over_the_prompts_that_have_so_many():
    pools = [pool([1, 2], [1, 0], 1), pool([3, 1, 2], [1, 0, 0], 2)]
    found = curve(pools, [1, 2, 3], by_value(lambda p: p.scores[0]), correct)
    assert means(found) == pytest.approx({1: (1 / 2 + 1 / 3) / 2, 2: (0 + 2 / 3) / 2, 3: 1})
    assert [list(group.units) for group in found.groups.values()] == [
        [f"{1:016x}", f"{2:016x}"],
        [f"{1:016x}", f"{2:016x}"],
        [f"{2:016x}"],
    ]
    assert found.errors == [0, 0, 0]


def test_a_prompt_counts_as_often_as_its_weight():
    pools = [pool([1], [1], 1, weight=3), pool([1], [0], 2)]
    found = curve(pools, [1], by_chance, correct)
    assert means(found) == {1: 0.75}
    assert found.groups["1"].units.count(f"{1:016x}") == 3


def test_chance_is_the_mean_of_all():
    found = curve(random_pools(20, 6), [1, 2, 4, 6], by_chance, correct)
    assert len({round(value, 12) for value in means(found).values()}) == 1


def test_ties_are_averaged_over_the_tied():
    found = curve([pool([2, 2, 1], [1, 0, 0])], [1, 2, 3], by_value(lambda p: p.scores[0]), correct)
    # Of pairs: both tied 1/2, the right one with the low one 1, the wrong one with it 0.
    assert means(found) == pytest.approx({1: 1 / 3, 2: 1 / 2, 3: 1 / 2})


def test_a_candidate_without_a_score_is_picked_only_where_nothing_else_is_there():
    found = curve([pool([-np.inf, 0], [1, 0])], [1, 2], by_value(lambda p: p.scores[0]), correct)
    assert means(found) == pytest.approx({1: 1 / 2, 2: 0})


def votes_over_all_subsets(answers, weights, right, n):
    """The slow way, with the answer itself instead of a candidate."""
    total = []
    for places in combinations(range(len(answers)), n):
        sums = Counter()
        for place in places:
            if answers[place] is not None:
                sums[answers[place]] += weights[place]
        if not sums:
            total.append(np.mean([right[place] for place in places]))
            continue
        top = [answer for answer, own in sums.items() if own == max(sums.values())]
        worth = [
            np.mean([right[place] for place in places if answers[place] == answer])
            for answer in top
        ]
        total.append(np.mean(worth))
    return np.mean(total)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_majority_is_that_of_all_subsets(n):
    answers = ["7", "8", None, "7", "9"]
    right = [1, 0, 0, 1, 0]
    own = pool(np.zeros(5), right, answers=answers)
    found = curve([own], [n], by_majority, correct)
    assert means(found)[n] == pytest.approx(votes_over_all_subsets(answers, [1] * 5, right, n))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_weighted_majority_adds_bradley_terry_strengths(n):
    answers = ["7", "8", None, "7", "9"]
    right, scores = [1, 0, 0, 1, 0], np.array([0.1, 0.9, 2.0, -0.2, 0.5])
    own = pool(scores, right, answers=answers)
    found = curve([own], [n], partial(by_weighted_majority, RULES["mean"]), correct)
    expected = votes_over_all_subsets(answers, np.exp(scores), right, n)
    assert means(found)[n] == pytest.approx(expected)


def test_a_vote_over_many_candidates_has_an_error_that_falls_with_prompts():
    def pools(count):
        return random_pools(
            count, 20, answers=lambda chance, most: [str(a) for a in chance.integers(4, size=most)]
        )

    few, many = (curve(pools(count), [1, 8], by_majority, correct) for count in (4, 64))
    assert few.errors[0] == pytest.approx(0, abs=1e-12)  # of one there are only 20
    assert 0 < many.errors[1] < few.errors[1] / 2


def test_weights_are_by_the_rule():
    scores = np.array([[3.0, 0.0, 0.0], [-5.0, 0.1, 0.0]])
    own = pool(scores, [1, 0, 0], answers=["a", "b", "c"])
    for rule, worth in (("mean", 0.1), ("worst", 0.05)):  # b alone, and b and c as equals
        pick = partial(by_weighted_majority, RULES[rule])
        found = curve([own], [3], pick, lambda p: p.scores[1])
        assert means(found)[3] == pytest.approx(worth)


def test_pools_of_one_prompt_share_their_error():
    def error_of(names):
        pools = [own._replace(prompt=f"{name:016x}") for own, name in zip(made, names, strict=True)]
        return curve(pools, [8], by_majority, correct).errors[0]

    made = [
        pool(np.zeros(20), np.arange(20) % 3 == 0, 0, answers=[str(a % 4) for a in range(20)])
    ] * 16
    assert error_of([0] * 16) == pytest.approx(4 * error_of(range(16)), rel=0.2)


@pytest.mark.parametrize("name", ["round_robin", "knockout"])
def test_a_tournament_of_one_model_is_its_highest(name):
    pools = random_pools(6, 5)
    ours = curve(pools, [1, 2, 3, 5], by_rule(RULES[name], lambda p: p.scores), correct)
    expected = curve(pools, [1, 2, 3, 5], by_value(lambda p: p.scores[0]), correct)
    assert means(ours) == pytest.approx(means(expected))


def test_a_rule_of_values_and_the_same_rule_over_subsets_agree():
    three = [
        pool(np.random.default_rng(at).normal(size=(3, 6)), [1, 0, 0, 1, 0, 0], at)
        for at in range(5)
    ]
    rule = RULES["worst"]
    assert rule.values is not None
    drawn = Rule("", lambda scores, _: highest(scores.min(axis=-2)))
    fast, slow = (
        curve(three, [1, 2, 4, 6], by_rule(own, lambda p: p.scores), correct)
        for own in (rule, drawn)
    )
    assert means(fast) == pytest.approx(means(slow))
