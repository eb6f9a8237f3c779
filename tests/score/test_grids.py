"""Shapes: few, counted, and bounded."""

import numpy as np
import pytest

from rbs_jax.score import grids
from rbs_jax.score import scorer as module
from rbs_jax.score.grids import Row, at_most, calls
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import MeshConfig, make_mesh
from tests.score.tiny import CONFIG, loaded_on, scorer_on


def every_row(context, responses):
    """Rows of all lengths that fit a context, each with all numbers of suffixes."""
    for prefix in range(context):
        for suffix in range(1, context - prefix + 1):
            for count in range(1, responses + 1):
                yield Row(0, [1] * prefix, [[1] * suffix] * count, list(range(count)))


@pytest.mark.parametrize(
    ("context", "responses", "tokens"),
    [(1, 1, 16384), (16, 3, 16384), (17, 1, 16384), (40, 5, 16384), (40, 5, 64), (65, 2, 32)],
)
def test_the_bound_is_the_number_of_shapes_of_all_that_fits(
    context, responses, tokens, monkeypatch
):
    monkeypatch.setattr(grids, "TOKENS_PER_CALL", tokens)
    mesh = make_mesh(MeshConfig())
    found = {call.shape for call in calls(every_row(context, responses), mesh)}
    assert at_most(context, responses) == len(found)


def test_a_row_shorter_than_its_neighbours_takes_no_shape_beyond_the_bound(monkeypatch):
    monkeypatch.setattr(grids, "TOKENS_PER_CALL", 64)
    row = Row(0, [1], [[1] * length for length in (40, 1, 1, 20, 3)], list(range(5)))
    found = {call.shape for call in calls([row], make_mesh(MeshConfig()))}
    assert {shape.suffixes for shape in found} == {1}
    assert len(found) == 3


def test_every_suffix_is_in_just_one_call_and_calls_are_no_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(grids, "TOKENS_PER_CALL", 256)
    chance = np.random.default_rng(0)
    rows = []
    for prompt in range(50):
        suffixes = [
            [int(x) for x in chance.integers(99, size=int(chance.integers(1, 50)))]
            for _ in range(int(chance.integers(1, 12)))
        ]
        rows.append(Row(prompt, [prompt] * (prompt % 7), suffixes, list(range(len(suffixes)))))
    seen = []
    for call in calls(rows, make_mesh(MeshConfig(2, 2, 2))):
        shape, grid = call.shape, call.grid
        prompts = grid.prefixes.shape[0] * grid.prefixes.shape[1]
        tokens = prompts * (shape.prefix + shape.suffixes * shape.suffix)
        assert tokens <= 256 or prompts == 4
        assert len(call.rows) <= prompts
        for row, lengths in call.own(grid.suffix_lengths):
            assert [len(suffix) for suffix in row.suffixes] == list(lengths)
            seen += [(row.prompt, where) for where in row.where]
    assert sorted(seen) == [(row.prompt, where) for row in rows for where in row.where]


def test_the_shapes_counted_are_those_compiled(monkeypatch):
    chance = np.random.default_rng(1)
    scorer, before = scorer_on(), module._rewards_and_features._cache_size()
    for _ in range(12):
        prompts = ["abcd " * int(n) for n in chance.integers(9, size=4)]
        responses = [["hij " * int(n) for n in chance.integers(9, size=k)] for k in (1, 2, 3, 5)]
        scorer.score(prompts, responses)
        said = scorer.shapes
        assert module._rewards_and_features._cache_size() - before == said.compiled
        assert said.compiled <= said.at_most == at_most(CONFIG.max_positions, 5)
    assert said.compiled > 3
    again = Scorer(loaded_on((1, 1, 1)))
    again.score(prompts, responses)
    assert module._rewards_and_features._cache_size() - before == said.compiled
    assert 0 < again.shapes.compiled <= said.compiled
