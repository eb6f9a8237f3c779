import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rbs_jax.choose import tournaments
from rbs_jax.choose.rule import highest
from rbs_jax.choose.tournaments import brackets, knockout, ratings, round_robin, votes
from tests.choose.drawn import INF, scores

CYCLE = np.array([[3.0, 2, 1], [1, 3, 2], [2, 1, 3]])
"""Three models, each of another mind: 0 before 1 before 2, and so on round."""


def ballots(candidates, highest=4):
    """Votes of a judge who was asked about each pair of them, not equally often."""
    shape = (candidates, candidates)
    some = arrays(float, shape, elements=st.integers(0, highest).map(float))
    return some.map(lambda drawn: drawn + np.triu(drawn + drawn.T == 0, 1))


def test_votes_by_hand():
    three = np.array([[1.0, 2, 2], [5, 4, 3], [0, 0, 1]])
    # 0 against 1: lost, won, tied; 0 against 2: lost, won, lost; 1 against 2: tied, won, lost.
    assert votes(three).tolist() == [[0, 1.5, 1], [1.5, 0, 1.5], [2, 1.5, 0]]


def test_those_without_some_score_lose_to_all_who_have_them():
    some = np.array([[9.0, -2, -INF], [-INF, -2, -INF]])
    assert votes(some).tolist() == [[0, 0, 1], [2, 0, 2], [1, 0, 0]]
    with pytest.raises(ValueError, match="finite"):
        votes(np.array([[np.nan, 1]]))


@settings(deadline=None)
@given(scores(missing=True))
def test_votes_of_a_pair_are_one_a_model(drawn):
    found = votes(drawn)
    candidates = drawn.shape[-1]
    assert np.array_equal(found + found.T, len(drawn) * (1 - np.eye(candidates)))


@settings(deadline=None)
@given(scores())
def test_a_monotone_transform_of_a_models_scores_changes_no_vote(drawn):
    other = drawn.copy()
    other[0] = np.exp(2 * other[0]) - 7
    assert np.array_equal(votes(other), votes(drawn))


@settings(deadline=None)
@given(scores(), st.integers(1, 4))
def test_identical_models_are_one(drawn, times):
    many = votes(np.tile(drawn, (times, 1)))
    assert np.array_equal(many, times * votes(drawn))
    order = np.arange(drawn.shape[-1])
    assert np.array_equal(knockout(many, order), knockout(votes(drawn), order))
    assert np.array_equal(round_robin(many), round_robin(votes(drawn)))


def test_ratings_by_hand():
    two = ratings(np.array([[0.0, 3], [1, 0]]))  # P = 3/4 for a difference of log 3
    assert two == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    # Strengths of 1, 2, 4 explain votes of 1:2, 1:4 and 2:4 without a rest. Logs have a mean of
    # log 2.
    three = np.array([[7.0, 1, 1], [2, 7, 1], [4, 2, 7]])
    assert ratings(three) == pytest.approx([-math.log(2), 0, math.log(2)])
    assert round_robin(three).tolist() == [0, 0, 1]


@settings(deadline=None, max_examples=30)
@given(ballots(4))
def test_ratings_are_those_of_the_highest_likelihood(drawn):
    drawn = drawn + 0.5  # so that there is a maximum
    np.fill_diagonal(drawn, 0)

    def loss(free):
        rating = np.append(free, -free.sum())
        return (drawn * np.logaddexp(0, rating[None, :] - rating[:, None])).sum()

    found = scipy.optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-7})
    assert ratings(drawn) == pytest.approx(np.append(found.x, -found.x.sum()), abs=1e-4)
    assert loss(ratings(drawn)[:3]) <= found.fun + 1e-9


def nearly_ordered(candidates):
    """Nobody has a vote against one further up, but the last has one against the first."""
    drawn = np.triu(np.full((candidates, candidates), 1e6), 1)
    drawn[-1, 0] = 1
    return drawn


@pytest.mark.parametrize(
    "drawn",
    [
        nearly_ordered(8),
        nearly_ordered(64),
        # Here Newton's whole steps would go further and further astray.
        np.array([[0, 1, 1, 0.01], [1e6, 0, 1, 0.01], [1e3, 1e5, 0, 1], [1e4, 1, 10, 0]]),
    ],
)
def test_ratings_that_lie_far_apart_are_found(drawn):
    with np.errstate(all="raise", under="ignore"):
        found = ratings(drawn)
    chance = np.exp(-np.logaddexp(0, found[None, :] - found[:, None]))
    games = drawn + drawn.T
    expected = (games * chance).sum(axis=-1)
    assert expected == pytest.approx(drawn.sum(axis=-1), abs=1e-9 * games.sum(axis=-1).max())


def test_who_has_all_votes_but_one_against_the_rest_is_far_above():
    assert (np.diff(ratings(nearly_ordered(8))) < -10).all()


def reached(drawn):
    """From each, all whom one gets to by won votes: by a walk over them."""
    for start in range(len(drawn)):
        seen, rest = {start}, [start]
        while rest:
            here = rest.pop()
            new = {other for other in range(len(drawn)) if other != here and drawn[here, other]}
            rest += new - seen
            seen |= new
        yield seen


@settings(deadline=None)
@given(st.integers(1, 6).flatmap(lambda candidates: ballots(candidates, highest=1)))
def test_those_outside_the_top_group_have_no_rating_and_never_win(drawn):
    top = np.array([len(seen) == len(drawn) for seen in reached(drawn)])
    found = ratings(drawn)
    assert np.array_equal(found > -INF, top)
    assert found[top].mean() == pytest.approx(0, abs=1e-9)
    assert not round_robin(drawn)[~top].any()
    alone = drawn[np.ix_(top, top)]
    assert found[top] == pytest.approx(ratings(alone), abs=1e-6)


@settings(deadline=None)
@given(scores(missing=True))
def test_of_equally_many_votes_a_pair_the_highest_rating_has_the_most(drawn):
    found = votes(drawn)
    fitted = highest(ratings(found), within=1e-6)
    assert round_robin(found) == pytest.approx(fitted)


def test_of_equally_many_votes_a_pair_nothing_is_fitted(monkeypatch):
    monkeypatch.setattr(tournaments, "ratings", None)
    assert round_robin(np.array([[[0.0, 3], [1, 0]], [[0, 1], [1, 0]]])).tolist() == [
        [1, 0],
        [0.5] * 2,
    ]
    with pytest.raises(TypeError):
        round_robin(np.array([[0.0, 3, 1], [1, 0, 1], [1, 1, 0]]))


def test_with_unequal_numbers_of_votes_the_most_need_not_win():
    # 0 has the better of 1, who has most of its votes from the many games against 2.
    drawn = np.array([[0.0, 10, 1], [8, 0, 30], [1, 10, 0]])
    assert drawn.sum(axis=-1).tolist() == [11, 38, 11]
    assert round_robin(drawn).tolist() == [1, 0, 0]
    # The same turned round and added: equal votes everywhere, so all are equal.
    assert round_robin(drawn + drawn.T) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_ratings_need_votes_on_every_pair():
    for wrong, match in (
        ([[0.0, 0], [0, 0]], "no votes"),
        ([[0.0, 2], [-1, 0]], "negative"),
        ([[0.0, np.nan], [1, 0]], "finite"),
    ):
        for rate in (ratings, round_robin):
            with pytest.raises(ValueError, match=match):
                rate(np.array(wrong))
    with pytest.raises(ValueError, match="negative"):
        knockout(np.array([[0.0, 2], [-1, 0]]), np.array([0, 1]))


def test_ratings_that_are_not_found_are_not_given(monkeypatch):
    monkeypatch.setattr(tournaments, "STEPS", 2)
    with pytest.raises(ArithmeticError, match="2 steps"):
        ratings(np.array([[0.0, 300], [1, 0]]))


def test_a_cycle_has_no_best_but_every_bracket_has():
    cycle = votes(CYCLE)
    assert cycle.tolist() == [[0, 2, 1], [1, 0, 2], [2, 1, 0]]
    assert ratings(cycle) == pytest.approx([0, 0, 0])
    assert round_robin(cycle) == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert knockout(cycle, np.array([0, 1, 2])).tolist() == [0, 0, 1]  # 0 beats 1, loses to 2
    assert knockout(cycle, np.array([2, 1, 0])).tolist() == [1, 0, 0]


def test_knockout_with_coins_by_hand():
    even = np.array([[0.0, 1, 2, 2], [1, 0, 2, 2], [0, 0, 0, 2], [0, 0, 0, 0]])
    # 0 and 1 are even, both beat 2, who beats 3.
    assert knockout(even, np.array([0, 1, 2, 3])).tolist() == [0.5, 0.5, 0, 0]
    three = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])  # all even: 2 has a bye
    assert knockout(three, np.array([0, 1, 2])).tolist() == [0.25, 0.25, 0.5]


def test_who_had_a_bye_has_none_in_the_next_round():
    # 0 beats 1, 2 beats 3, 4 has a bye; 0 beats 4, 2 has a bye; 2 beats 0. Had 4 sat out the second
    # round as well, 2 would have beaten 0 there and lost the last game, to 4.
    beats = np.zeros((5, 5))
    for winner, loser in [(0, 1), (2, 3), (0, 4), (2, 0), (4, 2)]:
        beats[winner, loser] = 1
    assert knockout(beats, np.arange(5)).tolist() == [0, 0, 1, 0, 0]


def played(drawn, players):
    """Every way that a bracket can go: pairs of its chance and its winner."""
    if len(players) == 1:
        return [(1.0, players[0])]
    games = list(zip(players[::2], players[1::2], strict=False))
    waiting = players[2 * len(games) :]
    ways = []
    for winners in itertools.product(*games):
        chance = 1.0
        for winner, game in zip(winners, games, strict=True):
            loser = sum(game) - winner
            margin = drawn[winner, loser] - drawn[loser, winner]
            chance *= 0.5 if margin == 0 else float(margin > 0)
        ways += [(chance * later, last) for later, last in played(drawn, waiting + list(winners))]
    return ways


@pytest.mark.parametrize("candidates", [1, 2, 3, 4, 5])
def test_knockout_is_what_all_ways_to_play_it_come_to(candidates):
    random = np.random.default_rng(candidates)
    orders = np.array(list(itertools.permutations(range(candidates))))
    for _ in range(5):
        drawn = random.integers(0, 3, (candidates, candidates)).astype(float)
        found = knockout(np.broadcast_to(drawn, (len(orders), *drawn.shape)), orders)
        for order, chances in zip(orders.tolist(), found, strict=True):
            wanted = np.zeros(candidates)
            for chance, winner in played(drawn, order):
                wanted[winner] += chance
            assert np.array_equal(chances, wanted)


@settings(deadline=None)
@given(scores(models=st.just(1), candidates=st.integers(1, 9), missing=True), st.integers(0, 99))
def test_of_one_model_a_tournament_picks_the_argmax(one, seed):
    best = highest(one[0])
    assert np.array_equal(round_robin(votes(one)), best)
    chances = knockout(votes(one), brackets(one, np.random.default_rng(seed)))
    assert chances.sum() == 1
    assert np.array_equal(chances > 0, best > 0)


@settings(deadline=None)
@given(scores(missing=True), st.integers(0, 99))
def test_candidates_in_another_order_are_picked_as_before(drawn, seed):
    moved = np.random.default_rng(seed).permutation(drawn.shape[-1])
    other = votes(drawn[:, moved])
    order = brackets(drawn, np.random.default_rng(seed + 1))
    same = np.argsort(moved)[order]
    assert np.array_equal(knockout(other, same), knockout(votes(drawn), order)[moved])
    assert np.array_equal(round_robin(other), round_robin(votes(drawn))[moved])
    assert ratings(other) == pytest.approx(ratings(votes(drawn))[moved], abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(scores(candidates=st.integers(1, 5), draws=(2, 3), missing=True))
def test_a_batch_is_each_by_itself(drawn):
    counted = votes(drawn)
    order = brackets(drawn, np.random.default_rng(0))
    unequal = counted + np.arange(6).reshape(2, 3, 1, 1) * np.triu(np.ones(counted.shape[-2:]))
    for at in np.ndindex(2, 3):
        assert np.array_equal(counted[at], votes(drawn[at]))
        assert np.array_equal(knockout(counted, order)[at], knockout(counted[at], order[at]))
        assert np.array_equal(round_robin(counted)[at], round_robin(counted[at]))
        assert ratings(unequal)[at] == pytest.approx(ratings(unequal[at]), abs=1e-6)
        assert round_robin(unequal)[at] == pytest.approx(round_robin(unequal[at]))


def test_brackets_are_shuffled_each_by_itself():
    scores = np.zeros((4000, 2, 3))
    order = brackets(scores, np.random.default_rng(0))
    kinds, counts = np.unique(order, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert (np.abs(counts - 4000 / 6) < 100).all()  # four standard deviations
    assert np.array_equal(order, brackets(scores, np.random.default_rng(0)))
