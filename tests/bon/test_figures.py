import json

import numpy as np
import pytest

from rbs_jax.bon.figures import by_source, figures
from rbs_jax.choose.table import RULES
from tests.bon.made import pool, random_pools

MEAN = RULES["mean"]


def good_pools(count=60, most=8, skill=1.5, **known):
    """Scores that are higher for right ones."""
    pools = random_pools(count, most, **known)
    return [own._replace(scores=own.scores + skill * own.known.correct) for own in pools]


def votes(chance, most):
    return [str(answer) for answer in chance.integers(3, size=most)]


def test_all_curves_stand_beside_n():
    found = figures(good_pools(answers=votes, logprob=lambda c, n: c.normal(size=n)), MEAN)
    assert found["n"] == [1, 2, 4, 8]
    assert found["prompts"] == [60] * 4
    assert found["prompts_in_all"] == 60
    lists = ("rm", "rm_ci95", "above_random", "above_random_ci95", "above_random_p")
    for name in (
        *lists,
        "rm_error",
        "inside_controls",
        "oracle",
        "random",
        "logp",
        "majority",
        "majority_error",
    ):
        assert len(found[name]) == 4, name
    assert set(found["controls"]) == {"longer", "logp", "random_head"}
    assert len(found["random_heads"]) == 2
    np.testing.assert_allclose(np.diff(found["random"]), 0, atol=1e-12)
    assert (np.diff(found["rm"]) > 0).all()
    assert (np.diff(found["oracle"]) > 0).all()
    # Of one candidate there is nothing to choose.
    for name in ("oracle", "random", "logp", "majority", "weighted_majority"):
        assert found[name][0] == pytest.approx(found["rm"][0]), name
    own = good_pools(answers=votes, logprob=lambda c, n: c.normal(size=n))
    assert found["oracle"][-1] == np.mean([each.known.correct.any() for each in own])
    assert found["weighted_majority"][-1] > found["majority"][-1]
    assert found["overoptimisation"] is None
    assert "by_source" not in found
    curves = {name: found[name] for name in ("oracle", "random", "logp", "majority")}
    for name, values in (curves | {"longer": found["controls"]["longer"]}).items():
        for (low, high), value in zip(found["ci95"][name], values, strict=True):
            assert low < value < high, name
    json.dumps(found, allow_nan=False)


def test_the_whole_pool_gives_the_highest_score():
    pools = good_pools()
    expected = np.mean([own.known.correct[own.scores[0].argmax()] for own in pools])
    assert figures(pools, MEAN)["rm"][-1] == pytest.approx(expected)


def test_every_random_head_has_its_own_curve():
    pools = good_pools()
    found = figures(pools, MEAN)["random_heads"]
    for at, curve in enumerate(found):
        expected = np.mean([own.known.correct[own.heads[at][0].argmax()] for own in pools])
        assert curve[-1] == pytest.approx(expected)


def test_skill_is_above_random_and_none_is_inside_its_controls():
    found = figures(good_pools(), MEAN)
    assert set(found["inside_controls"][0]) == {"longer", "chance", "random_head"}  # all are alike
    assert found["inside_controls"][-1] == []
    low, high = found["above_random_ci95"][-1]
    assert 0 < low < found["above_random"][-1] < high
    assert found["above_random"][-1] == pytest.approx(found["rm"][-1] - found["random"][-1])
    low, high = figures(good_pools(skill=0), MEAN)["above_random_ci95"][-1]
    assert low < 0 < high
    assert "chance" in figures(good_pools(skill=0), MEAN)["inside_controls"][-1]


def test_few_prompts_on_which_picking_matters_are_no_evidence():
    def mixed(count):
        pools = [pool([2, 1], [1, 0], at) for at in range(count)]
        return [*pools, *(pool([2, 1], [1, 1], at) for at in range(count, 30))]

    found = figures(mixed(9), MEAN)
    assert found["above_random_ci95"][-1][0] > 0
    assert set(found["inside_controls"][-1]) == {"longer", "chance", "random_head"}
    assert figures(mixed(10), MEAN)["inside_controls"][-1] == []


def test_chance_is_beaten_by_the_permutations_too():
    # One of four is wrong, and is avoided ten times of eleven: the bootstrap alone is sure.
    pools = [pool([1, 2, 3, 4], [0, 1, 1, 1], at) for at in range(10)]
    pools += [pool([4, 3, 2, 1], [0, 1, 1, 1], 11)]
    found = figures(pools, MEAN)
    assert found["above_random_p"][-1] > 0.025
    assert "chance" in found["inside_controls"][-1]


def test_all_right_is_above_nothing():
    pools = [pool([3, 1, 2], [1, 1, 1], at) for at in range(12)]
    found = figures(pools, MEAN)
    assert found["above_random"] == [0, 0, 0]
    assert found["above_random_ci95"] == [[0, 0]] * 3
    assert all("chance" in own for own in found["inside_controls"])


def test_the_best_point_is_sought_among_points_of_the_same_prompts():
    # Those with many candidates are easy: their points are no better picking.
    pools = [pool([1, 2], [0, 1], at) for at in range(10)]
    pools += [pool([1, 2, 3, 4], [1, 1, 1, 1], at) for at in range(10, 20)]
    found = figures(pools, MEAN)
    assert found["n"] == [1, 2, 4]
    assert found["map"]["random"] == found["map"]["random"] | {"value": 0.75, "n": 1}
    assert found["map"]["rm"]["n"] == 2


def test_gains_are_over_the_same_prompts():
    # Gold grows with the number of candidates, and picking gains nothing.
    chance = np.random.default_rng(0)
    pools = [
        pool(chance.normal(size=k), None, at, gold=10 * k + chance.normal(size=k))
        for at, k in enumerate([2, 4, 8, 16] * 40)
    ]
    found = figures(pools, MEAN)["overoptimisation"]
    assert found["gold"][-1] > found["gold"][0] + 50
    assert np.abs(found["gold_gain"]).max() < 0.5
    low, high = found["laws"]["best_of_n"]["alpha_ci95"]
    assert low < 0 < high


def test_mixed_counts_prompts_where_picking_matters():
    pools = [pool([1, 2], own, at) for at, own in enumerate([[1, 1], [0, 0], [1, 0], [0.5, 1]])]
    assert figures(pools, MEAN)["mixed"] == 2


def test_prompts_of_few_candidates_end_early():
    found = figures([*random_pools(12, 2), *random_pools(15, 5, seed=1)], MEAN)
    assert found["n"] == [1, 2, 4, 5]
    assert found["prompts"] == [27, 27, 15, 15]


def test_what_is_not_known_is_none():
    found = figures([pool([1, 2, 3], None, at) for at in range(3)], MEAN)
    assert found["n"] == [1, 2, 3]
    for name in ("mixed", "rm", "oracle", "random", "logp", "majority", "controls", "map"):
        assert found[name] is None, name
    some = [*random_pools(2, 3, answers=votes), *random_pools(1, 3)]
    assert figures(some, MEAN)["majority"] is None


def test_no_candidates_at_all_give_no_points():
    found = figures([pool([], [])], MEAN)
    assert (found["n"], found["rm"], found["prompts_in_all"]) == ([], None, 1)


def test_the_best_point_is_too_high_and_another_split_is_not():
    # No skill at all: the best of many points is above chance, one chosen elsewhere is not.
    apart, elsewhere = [], []
    for seed in range(60):
        found = figures(random_pools(16, 16, seed=seed), MEAN)
        own = found["map"]["rm"]
        assert own["value"] == max(found["rm"])
        assert found["n"][found["rm"].index(own["value"])] == own["n"]
        apart.append(own["value"] - found["random"][0])
        elsewhere.append(own["elsewhere"] - found["random"][0])
    assert np.mean(apart) > 0.03
    assert abs(np.mean(elsewhere)) < 0.02


def test_n_is_chosen_on_the_other_half():
    # Prompts of even digests are best at n = 1, of odd ones at n = 2.
    pools = [pool([2, 1], [at % 2, 1 - at % 2], at) for at in range(20)]
    found = figures(pools, MEAN)["map"]["rm"]
    assert found["elsewhere_n"] == [2, 1]
    assert found["elsewhere"] == pytest.approx((0 + 0.5) / 2)
    assert found["elsewhere_ci95"] is not None
    alone = figures([pool([2, 1], [1, 0], 0)], MEAN)["map"]["rm"]
    assert alone == {"value": 1, "n": 2} | dict.fromkeys(
        ("elsewhere", "elsewhere_ci95", "elsewhere_n")
    )


def sourced(count=30):
    """Source b is right more often and longer; the scores only tell b from a."""
    chance = np.random.default_rng(0)
    pools = []
    for at in range(count):
        right = [*(chance.random(3) < 0.2), *(chance.random(2) < 0.8)]
        scores = [0.1, 0.2, 0.3, 1.1, 1.2]
        pools.append(pool(scores, right, at, source=["a"] * 3 + ["b"] * 2))
    return pools


def test_candidates_of_several_sources_are_also_picked_within_each():
    pools = sourced()
    found = figures(pools, MEAN)
    assert set(found["by_source"]) == {"a", "b"}
    assert found["by_source"]["a"]["n"] == [1, 2, 3]
    assert found["by_source"]["b"]["prompts"] == [30, 30]
    assert found["within_sources"]["n"] == [1, 2]  # as far as both go
    assert found["within_sources"]["prompts"] == [60, 60]
    assert found["within_sources"]["prompts_in_all"] == 60
    # Taking all together, the scores look skilled; inside a source they choose blindly.
    assert "chance" not in found["inside_controls"][-1]
    assert "chance" in found["within_sources"]["inside_controls"][1]
    alone = [own.only([0, 1, 2]) for own in pools]
    assert found["by_source"]["a"]["rm"] == pytest.approx(figures(alone, MEAN)["rm"])


def test_one_source_alone_is_not_told_apart():
    pools = [pool([1, 2], [0, 1], at, source=["a", "a"]) for at in range(3)]
    assert "by_source" not in figures(pools, MEAN)
    assert list(by_source(pools)) == ["a"]
    assert by_source([pool([1])]) == {}


def test_gold_is_followed_along_n_with_its_laws():
    chance = np.random.default_rng(0)
    pools = []
    for at in range(200):
        proxy = chance.normal(size=16)
        pools.append(pool(proxy, None, at, gold=proxy - 0.35 * proxy**2 + chance.normal(size=16)))
    found = figures(pools, MEAN)["overoptimisation"]
    assert (np.diff(found["proxy"]) > 0).all()
    assert found["gold"][1] > found["gold"][0]
    assert found["gold"][-1] < max(found["gold"])
    assert found["laws"]["best_of_n"]["peak"] < 1.5
    for name in ("gold", "gold_oracle"):
        for (low, high), value in zip(found[f"{name}_ci95"], found[name], strict=True):
            assert low < value < high
    by_hand = [own.known.gold[own.scores[0].argmax()] for own in pools]
    assert found["gold"][-1] == pytest.approx(np.mean(by_hand))
    assert found["gold_oracle"][-1] == pytest.approx(np.mean([p.known.gold.max() for p in pools]))


def test_a_proxy_that_is_partly_unknown_has_no_curve():
    pools = [pool([1, -np.inf, 2], None, at, gold=[1, 2, 3]) for at in range(4)]
    found = figures(pools, MEAN)["overoptimisation"]
    assert found["proxy"] is None
    assert found["gold"] == pytest.approx([2, 2 / 3 + 3 * 2 / 3 - 1 / 3, 3])


def test_lines_of_one_prompt_are_one_mixed_prompt():
    pools = random_pools(12, 4)
    once, again = (figures(own, RULES["mean"])["mixed"] for own in (pools, pools * 3))
    assert once == again > 0
