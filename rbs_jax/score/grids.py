"""Rows of ids to padded grids, of a bounded number of shapes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from rbs_jax.shapes import TokenGrid
from rbs_jax.train.feed import place_whole

OWN_SUFFIXES = TokenGrid("GPC", "GP", "GPST", "GPS")
"""The axes of a grid in which every prefix has suffixes of its own."""
TOKENS_PER_CALL = 16_384
"""Tokens scored at once, padding included, as long as one prompt needs no more."""
FEW = 16
"""A call for few rows holds that many times fewer tokens."""
SHORTEST = 16
"""Prefixes and suffixes are padded to this at least [tokens]."""


class Row(NamedTuple):
    """Responses to one prompt as ids, what they have in common at their start split off."""

    prompt: int
    """Position of the prompt."""
    prefix: list[int]
    suffixes: list[list[int]]
    where: list[int]
    """Position of each suffix among the prompt's responses."""


class Shape(NamedTuple):
    """Padded sizes; lengths and suffixes are powers of two, so that few are compiled."""

    prefix: int
    """Longest prefix [tokens]."""
    suffixes: int
    """Suffixes of a prefix."""
    suffix: int
    """Longest suffix [tokens]."""
    prompts: int
    """Prefixes of a call."""


Sizes = tuple[int, int, int]
"""Those of a shape but for the number of its prompts."""


class Call(NamedTuple):
    """What is computed at once: some rows, and the grid that holds them."""

    shape: Shape
    rows: list[Row]
    grid: TokenGrid

    def place(self, mesh: Mesh) -> TokenGrid:
        """The grid on the devices."""
        return place_whole(OWN_SUFFIXES, self.grid, mesh, mesh.shape["data"])

    def own(self, result: Any) -> Iterator[tuple[Row, np.ndarray]]:
        """Each row with its part of what was computed [G, P, S, ...]."""
        values = np.asarray(result)
        values = values.reshape(-1, *values.shape[2:])
        for row, value in zip(self.rows, values, strict=False):  # behind them stand none
            yield row, value[: len(row.suffixes)]


def calls(rows: Iterable[Row], mesh: Mesh) -> Iterator[Call]:
    """The rows in calls of equal shape, as many rows in each as TOKENS_PER_CALL admits."""
    by_sizes: dict[Sizes, list[Row]] = defaultdict(list)
    for row in rows:
        for piece in _in_pieces(row):
            by_sizes[_sizes_of(piece)].append(piece)
    _merge(by_sizes)
    for sizes, same in sorted(by_sizes.items()):
        many, few = _prompts(sizes, step_of(mesh))
        shape = Shape(*sizes, many if 2 * len(same) > many else few)
        for at in range(0, len(same), shape.prompts):
            part = same[at : at + shape.prompts]
            yield Call(shape, part, _grid(shape, part, mesh.shape["data"]))


def _merge(by_sizes: dict[Sizes, list[Row]]) -> None:
    """Rows of sizes that few have join larger ones: padding costs less than to compile."""
    for sizes in sorted(by_sizes, key=_tokens):
        larger = [
            other
            for other in by_sizes
            if other != sizes and all(a <= b for a, b in zip(sizes, other, strict=True))
        ]
        if larger:
            next_larger = min(larger, key=lambda other: (_tokens(other), other))
            more = _tokens(next_larger) - _tokens(sizes)
            if len(by_sizes[sizes]) * more <= TOKENS_PER_CALL:
                by_sizes[next_larger] += by_sizes.pop(sizes)


def step_of(mesh: Mesh) -> int:
    """What the number of a call's prompts must be a multiple of."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def at_most(context: int, responses: int, step: int) -> int:
    """How many shapes there can be.

    Args:
      context: the longest text [tokens].
      responses: the most to one prompt.
      step: that of the mesh.
    """
    lengths = [SHORTEST]
    while lengths[-1] < context:
        lengths.append(2 * lengths[-1])

    def shortest(padded: int) -> int:
        return 0 if padded == SHORTEST else padded // 2 + 1

    count = 0
    for prefix in lengths:
        for suffix in lengths:
            if shortest(prefix) + max(shortest(suffix), 1) <= context:
                most = min(_power_of_two(responses), _most_suffixes(suffix))
                every = (2**n for n in range(most.bit_length()))
                count += sum(len({*_prompts((prefix, own, suffix), step)}) for own in every)
    return count


def _tokens(sizes: Sizes) -> int:
    prefix, suffixes, suffix = sizes
    return prefix + suffixes * suffix


def _prompts(sizes: Sizes, step: int) -> tuple[int, int]:
    """Prompts of a call where there are many, and of one where there are few."""
    tokens = _tokens(sizes) * step
    many, few = (max(n // tokens, 1) * step for n in (TOKENS_PER_CALL, TOKENS_PER_CALL // FEW))
    return many, few


def _in_pieces(row: Row) -> Iterator[Row]:
    """The row, its suffixes divided so that one call need not hold more than TOKENS_PER_CALL.

    And where padding all to the longest costs more than to encode the prefix again.
    """
    by_length = sorted(range(len(row.suffixes)), key=lambda at: len(row.suffixes[at]))
    most = _most_suffixes(_padded(max(map(len, row.suffixes))))
    for start in range(0, len(by_length), most):
        for piece in _cheapest(row, by_length[start : start + most]):
            suffixes, where = [row.suffixes[at] for at in piece], [row.where[at] for at in piece]
            yield row._replace(suffixes=suffixes, where=where)


def _cheapest(row: Row, piece: list[int]) -> list[list[int]]:
    """Suffixes by length, cut in two as long as that saves tokens."""

    def cost(start: int, stop: int) -> int:
        longest = len(row.suffixes[piece[stop - 1]])
        return _padded(len(row.prefix)) + _power_of_two(stop - start) * _padded(longest)

    end = len(piece)
    costs = [cost(0, at) + cost(at, end) for at in range(1, end)]
    if not costs or min(costs) >= cost(0, end):
        return [piece]
    at = 1 + costs.index(min(costs))
    return [*_cheapest(row, piece[:at]), *_cheapest(row, piece[at:])]


def _most_suffixes(padded: int) -> int:
    return max(TOKENS_PER_CALL // padded, 1)


def _padded(length: int) -> int:
    return max(_power_of_two(length), SHORTEST)


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _sizes_of(row: Row) -> Sizes:
    longest = max(map(len, row.suffixes))
    return _padded(len(row.prefix)), _power_of_two(len(row.suffixes)), _padded(longest)


def _grid(shape: Shape, rows: list[Row], grids: int) -> TokenGrid:
    """Rows padded to the shape; missing rows and suffixes are one padding id long."""
    prompts = shape.prompts
    prefixes = np.zeros((prompts, shape.prefix), np.int32)
    prefix_lengths = np.zeros(prompts, np.int32)
    suffixes = np.zeros((prompts, shape.suffixes, shape.suffix), np.int32)
    suffix_lengths = np.ones((prompts, shape.suffixes), np.int32)
    for p, row in enumerate(rows):
        prefixes[p, : len(row.prefix)] = row.prefix
        prefix_lengths[p] = len(row.prefix)
        for s, ids in enumerate(row.suffixes):
            suffixes[p, s, : len(ids)] = ids
            suffix_lengths[p, s] = len(ids)
    arrays = prefixes, prefix_lengths, suffixes, suffix_lengths
    return TokenGrid(*(array.reshape(grids, -1, *array.shape[1:]) for array in arrays))
