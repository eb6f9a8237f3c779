"""Shapes: few, counted, and bounded."""

from itertools import product

import numpy as np
import pytest

from rbs_jax.score import grids
from rbs_jax.score import scorer as module
from rbs_jax.score.grids import Row, at_most, calls, step_of
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import MeshConfig, make_mesh
from tests.score.tiny import CONFIG, loaded_on, scorer_on


def row_of(prefix, suffix, count):
    return Row(0, [1] * prefix, [[1] * suffix] * count, list(range(count)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize(
    ("context", "responses", "tokens"),
    [(1, 1, 1024), (17, 1, 1024), (40, 4, 1024), (40, 4, 64), (65, 2, 32)],
)
def test_the_bound_is_the_number_of_shapes_of_all_that_fits(
    context, responses, tokens, shape, monkeypatch
):
    monkeypatch.setattr(grids, "TOKENS_PER_CALL", tokens)
    mesh, found = make_mesh(MeshConfig(*shape)), set()
    borders = {0, 1, 16, 17, 32, 33, 64, 65}
    for prefix, suffix in product(borders, borders - {0}):
        if prefix + suffix <= context:
            for count in (2**n for n in range(responses.bit_length())):
                for rows in (1, 33):  # few, and more than one call of many
                    every = calls([row_of(prefix, suffix, count)] * rows, mesh)
                    found |= {call.shape for call in every}
    assert at_most(context, responses, step_of(mesh)) == len(found)


def test_suffixes_of_unlike_lengths_are_cut_apart_where_that_saves_tokens():
    mesh = make_mesh(MeshConfig())
    lengths = (500, 10, 12, 490, 3)
    suffixes = [[1] * length for length in lengths]
    (cut, other), (whole,) = (
        list(calls([Row(0, [1] * prefix, suffixes, list(range(5)))], mesh)) for prefix in (9, 5000)
    )
    assert [call.shape[:3] for call in (cut, other)] == [(16, 2, 512), (16, 4, 16)]
    assert [sorted(row.where) for call in (cut, other) for row in call.rows] == [[0, 3], [1, 2, 4]]
    assert whole.shape[:3] == (8192, 8, 512)
    assert sorted(whole.rows[0].where) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("few", "shapes"), [(3, 1), (600, 2)])
def test_few_rows_join_a_larger_shape_and_many_do_not(few, shapes):
    rows = [row_of(8, 8, 1)] * few + [row_of(100, 100, 2)] * 5
    found = list(calls(rows, make_mesh(MeshConfig())))
    assert len({call.shape for call in found}) == shapes
    assert sum(len(call.rows) for call in found) == len(rows)


def test_a_lone_row_is_not_computed_beside_thousands_of_padding():
    (call,) = calls([row_of(5, 5, 1)], make_mesh(MeshConfig()))
    assert call.grid.prefixes.shape[1] * (16 + 16) == grids.TOKENS_PER_CALL // grids.FEW


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
        assert shape.prompts == prompts
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
        assert said.compiled <= said.at_most == at_most(CONFIG.max_positions, 5, 1)
    assert said.compiled > 3
    again = Scorer(loaded_on((1, 1, 1)))
    again.score(prompts, responses)
    assert module._rewards_and_features._cache_size() - before == said.compiled
    assert 0 < again.shapes.compiled <= said.compiled
