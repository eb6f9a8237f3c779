from itertools import combinations, permutations

import numpy as np
import pytest

from rbs_jax.bon.curves import by_rule
from rbs_jax.bon.permutations import LEVEL, blind
from rbs_jax.choose.table import RULES
from tests.bon.made import pool, random_pools


def correct(own):
    return own.known.correct


PICK = by_rule(RULES["mean"], lambda own: own.scores)


def p_of(pools, ns, rule="mean"):
    return blind(pools, ns, RULES[rule], correct)


def test_p_is_the_share_of_all_deals_that_do_as_well():
    right = [1.0, 1.0, 0.0, 0.0]
    own = pool([4, 2, 3, 1], right)
    worth = lambda values: (PICK(own, 2) @ np.array(values)).item()  # noqa: E731
    deals = [worth(values) for values in permutations(right)]
    expected = np.mean(np.array(deals) >= worth(right) - 1e-9)
    assert p_of([own], [2])[0] == pytest.approx(expected, abs=0.03)


def test_one_candidate_or_nothing_to_choose_is_no_evidence():
    pools = [*random_pools(5, 6), pool([1, 2], [1, 1], 90), pool([], [], 91)]
    assert p_of(pools, [1])[0] == 1
    assert p_of([pool([1, 2, 3], [1, 1, 1], at) for at in range(20)], [1, 2, 3]) == [1, 1, 1]


def test_skill_is_seen():
    pools = [own._replace(scores=own.scores + own.known.correct) for own in random_pools(60, 8)]
    assert p_of(pools, [8])[0] < 0.001


def test_blind_scores_pass_for_skill_no_oftener_than_they_may():
    # Four prompts of twenty matter, each with seven right ones of eight: a bootstrap over prompts
    # is certain here in most draws.
    chance, found = np.random.default_rng(0), []
    for _ in range(300):
        pools = [
            pool(chance.normal(size=8), [0] + [1] * 7 if at < 4 else [1] * 8, at)
            for at in range(20)
        ]
        found.append(p_of(pools, [8])[0])
    assert np.mean(np.array(found) <= LEVEL) <= 0.05


def test_a_prompt_counts_as_often_as_its_weight():
    pools = [pool([2, 1], [1, 0], 0, weight=50), pool([2, 1], [0, 1], 1), pool([2, 1], [0, 1], 2)]
    assert p_of(pools, [2])[0] == pytest.approx(0.5, abs=0.05)


COPIES = [0, 0, 0, 1, 2, 2, 3, 4]
"""Which text each of eight candidates has."""
SCORES, RIGHT = [3, 1, 2, 1, 4], [0.2, 0.9, 0.5, 0.1, 0.7]


def of_copies(scores, right=RIGHT):
    scores, right = (np.array(own, float)[COPIES] for own in (scores, right))
    return pool(scores, right, texts=[f"{at:016x}" for at in COPIES])


def mean_worth(scores, n):
    """Of the highest of every subset of n, by hand."""
    own, worth = of_copies(scores), []
    for subset in map(list, combinations(range(8), n)):
        of_subset = own.scores[0, subset]
        worth.append(correct(own)[subset][of_subset == of_subset.max()].mean())
    return np.mean(worth)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("scores", [SCORES, [1, 4, 2, 2, 3]])
def test_copies_of_a_text_are_dealt_together(n, scores):
    deals = np.array([mean_worth(each, n) for each in permutations(scores)])
    expected = np.mean(deals >= mean_worth(scores, n) - 1e-9)
    assert p_of([of_copies(scores)], [n])[0] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_by_votes_copies_are_dealt_among_texts_of_as_many(n):
    once = [1, 3, 4]
    found = []
    for each in permutations(once):
        scores = list(SCORES)
        for at, other in zip(once, each, strict=True):
            scores[at] = SCORES[other]
        found.append(mean_worth(scores, n))
    expected = np.mean(np.array(found) >= mean_worth(SCORES, n) - 1e-9)
    p = p_of([of_copies(SCORES)], [n], "round_robin")[0]
    assert p == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("rule", ["mean", "round_robin"])
def test_blind_scores_of_copies_pass_for_skill_no_oftener_than_they_may(rule):
    chance, found = np.random.default_rng(1), []
    for _ in range(100):
        pools = []
        for at in range(12):
            of = chance.integers(3, size=9)
            right = chance.permutation([1, 0, 0])
            scores = chance.normal(size=3)
            texts = [f"{text:016x}" for text in of]
            pools.append(pool(scores[of], right[of], at, texts=texts))
        found.append(p_of(pools, [4], rule)[0])
    assert np.mean(np.array(found) <= LEVEL) <= 0.06


def test_a_line_that_stands_there_again_is_no_further_evidence():
    pools = random_pools(6, 5)
    assert p_of([own for own in pools for _ in range(4)], [2, 5]) == p_of(pools, [2, 5])


def test_by_votes_as_by_values():
    pools = random_pools(6, 5)
    voted, valued = p_of(pools, [5], "round_robin"), p_of(pools, [5])
    assert voted == pytest.approx(valued, abs=0.04)
    assert 0.05 < valued[0] < 0.95
