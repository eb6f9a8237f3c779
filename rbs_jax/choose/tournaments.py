"""Candidates play each other; several models, or several samples of one judge, vote on each game.

With the votes of one model that scores each candidate alone, the winner is the one of the highest
score, as without a tournament: there is something to gain only where voters disagree.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from rbs_jax.choose.rule import Choice, Scores, Values, highest, scored

Votes = Float[np.ndarray, "*B K K"]
"""How many prefer i (row) to j (column), a tie being half a vote each way; at least 0. Nobody plays
itself: the diagonal is not looked at. From `votes`, or as somebody counted a pairwise judge's."""
Order = Int[np.ndarray, "*B K"]
"""The candidates in the order in which a bracket has them."""
TOLERANCE = 1e-10
"""How far the votes a candidate can expect under fitted ratings may be from its own: this share of
all votes in the games of whoever has most."""
EQUAL = 1e-6
"""Ratings this near the highest are equal to it: they are fitted, not exact."""
STEPS = 10_000
"""Of Newton's method. Under ten for most votes; one for each unit that ratings lie apart, which can
be hundreds if nearly all votes go one way."""


def votes(scores: Scores) -> Votes:
    """How many models score i above j, half of those that score both the same.

    A candidate without some score gets no vote against one with all; two such are equals.

    Raises:
      ValueError: a score is NaN or +inf.
    """
    known = np.where(scored(scores)[..., None, :], scores, -np.inf)
    row, column = known[..., :, None], known[..., None, :]
    at_least = (row >= column).sum(axis=-3, dtype=float)
    above = (at_least + scores.shape[-2] - np.swapaxes(at_least, -1, -2)) / 2
    return np.where(np.eye(scores.shape[-1], dtype=bool), 0, above)


def round_robin(votes: Votes) -> Choice:
    """Everyone plays everyone: the highest of Bradley-Terry `ratings` wins.

    arXiv:2505.14674 rates by ELO over the same games. ELO depends on the order of games; averaged
    over orders, with small steps, it settles where the likelihood is highest.

    Where all pairs have the same number of votes n, the highest rating is the most votes in all,
    which is exact and needs no fit. In the top component `ratings` solve
    v_i = sum_j n sigma(r_i - r_j), whose right side grows with r_i. Its members have all n votes
    against the others, and on average half of those among each other: the most are inside.

    Raises:
      ValueError: as `ratings` does.
    """
    own, games = _games(votes)
    each = games[..., ~np.eye(votes.shape[-1], dtype=bool)]
    if np.all(each == each[..., :1]):
        return highest(own.sum(axis=-1))
    return highest(ratings(votes), within=EQUAL)


def ratings(votes: Votes) -> Values:
    """Bradley-Terry ratings of the highest likelihood: P(i before j) = sigma(r_i - r_j).

    The likelihood sum_ij v_ij log sigma(r_i - r_j) has a maximum where no group of candidates has
    won all its votes against the rest (Ford 1957, American Mathematical Monthly 64:28-33), that is,
    where everyone is reached from everyone by steps from i to j with v_ij > 0. Otherwise candidates
    fall into groups that have all votes against the next: infinitely far above it. Inside the top
    group ratings are of the games among its members, with a mean of 0; all others have -inf.

    Newton's method, each step cut to change no difference of ratings by more than 1. That makes
    every step go up: along a step d the second derivative grows by e at most, so that a step of t d
    gains at least (t - (e - 2) t^2) d'Hd > 0 for t <= 1. It ends where each candidate's expected
    votes are its own to within `TOLERANCE`, for all of the batch.

    Raises:
      ValueError: a vote is negative or no finite number; a pair has no votes.
      ArithmeticError: not there after `STEPS` steps.
    """
    own, games = _games(votes)
    top = np.all(_reach(own > 0), axis=-1)
    among = top[..., :, None] & top[..., None, :]
    own, games = np.where(among, own, 0), np.where(among, games, 0)
    # A constant added to all ratings changes nothing, nor do those of nobody's games: pin both.
    pins = among + np.where(~top[..., None], np.eye(votes.shape[-1]), 0)
    rating = np.zeros(top.shape)
    for _ in range(STEPS):
        chance = np.exp(-np.logaddexp(0, rating[..., None, :] - rating[..., :, None]))
        missing = (own - games * chance).sum(axis=-1)
        most = games.sum(axis=-1).max(axis=-1, keepdims=True)
        if (np.abs(missing) <= TOLERANCE * most).all():
            return np.where(top, rating, -np.inf)
        weight = games * chance * np.swapaxes(chance, -1, -2)
        curvature = np.eye(votes.shape[-1]) * weight.sum(axis=-1)[..., None] - weight + pins
        step = np.linalg.solve(curvature, missing[..., None])[..., 0]
        rating = rating + step / np.maximum(np.ptp(step, axis=-1, keepdims=True), 1)
    raise ArithmeticError(f"no ratings after {STEPS} steps")


def knockout(votes: Votes, order: Order) -> Choice:
    """Winners advance until one is left, after K - 1 games (arXiv:2505.14674).

    Neighbours of a round play; a game goes to the majority of votes, at equal counts to either with
    a chance of one half. Winners keep their order. Of an odd number the last has a bye, and stands
    first in the next round, so that it has none there. Coins are not tossed: chances are carried,
    p_i sum_j q_j P(i beats j) for i from a place of chances p against one of chances q.

    Args:
      votes: nobody looks by how much one of two is larger; a pair may have none.
      order: a permutation for each of the batch, such as `brackets` has.

    Raises:
      ValueError: a vote is negative or no finite number.
    """
    _check(votes)
    own = np.take_along_axis(votes, order[..., :, None], axis=-2)
    own = np.take_along_axis(own, order[..., None, :], axis=-1)
    back = np.swapaxes(own, -1, -2)
    beats = (own > back) + (own == back) / 2  # [i, j]: that i beats j, both by their places
    places = [
        _Place(np.array([at]), np.ones((*order.shape[:-1], 1))) for at in range(order.shape[-1])
    ]
    while len(places) > 1:
        paired = len(places) - len(places) % 2
        games = zip(places[0:paired:2], places[1:paired:2], strict=True)
        places = places[paired:] + [_winner(beats, *game) for game in games]
    choice = np.zeros(order.shape)
    np.put_along_axis(choice, order[..., places[0].who], places[0].chances, axis=-1)
    return choice


class _Place(NamedTuple):
    """Who may stand in a place of a round."""

    who: Int[np.ndarray, " P"]
    """Their places in the first round."""
    chances: Float[np.ndarray, "*B P"]


def _winner(beats: Float[np.ndarray, "*B K K"], one: _Place, other: _Place) -> _Place:
    game = beats[..., one.who[:, None], other.who]
    first = one.chances * (game @ other.chances[..., None])[..., 0]
    second = other.chances * (one.chances[..., None, :] @ (1 - game))[..., 0, :]
    return _Place(np.concatenate([one.who, other.who]), np.concatenate([first, second], axis=-1))


def brackets(scores: Scores, random: np.random.Generator) -> Order:
    """A shuffle of the candidates for each of the batch."""
    *batch, _, candidates = scores.shape
    return random.permuted(np.broadcast_to(np.arange(candidates), (*batch, candidates)), axis=-1)


def _games(votes: Votes) -> tuple[Votes, Votes]:
    """Votes with 0 on the diagonal, and how many there are of each pair."""
    _check(votes)
    alone = np.eye(votes.shape[-1], dtype=bool)
    own = np.where(alone, 0, votes)
    games = own + np.swapaxes(own, -1, -2)
    if not ((games > 0) | alone).all():
        raise ValueError("a pair of candidates has no votes")
    return own, games


def _check(votes: Votes) -> None:
    if not (np.isfinite(votes) & (votes >= 0)).all():
        raise ValueError("a vote is negative or no finite number")


def _reach(steps: Bool[np.ndarray, "*B K K"]) -> Bool[np.ndarray, "*B K K"]:
    """Whether there is a way of steps from i to j; squaring doubles the length of ways known."""
    reach = steps | np.eye(steps.shape[-1], dtype=bool)
    for _ in range(steps.shape[-1].bit_length()):
        reach = reach.astype(np.float32) @ reach.astype(np.float32) > 0
    return reach
