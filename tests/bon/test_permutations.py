from itertools import permutations

import numpy as np
import pytest

from rbs_jax.bon.curves import by_value
from rbs_jax.bon.permutations import LEVEL, blind
from tests.bon.made import pool, random_pools


def correct(own):
    return own.known.correct


PICK = by_value(lambda own: own.scores[0])


def p_of(pools, ns):
    return blind(pools, ns, PICK, correct)


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
