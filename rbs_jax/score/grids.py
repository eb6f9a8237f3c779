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
    """Padded sizes, powers of two; with the mesh they decide what is compiled."""

    prefix: int
    """Longest prefix [tokens]."""
    suffixes: int
    """Suffixes of a prefix."""
    suffix: int
    """Longest suffix [tokens]."""


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
    by_shape: dict[Shape, list[Row]] = defaultdict(list)
    for row in rows:
        for piece in _in_pieces(row):
            by_shape[_shape_of(piece)].append(piece)
    grids, step = mesh.shape["data"], mesh.shape["data"] * mesh.shape["fsdp"]
    for shape, same in sorted(by_shape.items()):
        tokens = shape.prefix + shape.suffixes * shape.suffix
        prompts = max(TOKENS_PER_CALL // tokens // step, 1) * step
        for at in range(0, len(same), prompts):
            part = same[at : at + prompts]
            yield Call(shape, part, _grid(shape, part, prompts, grids))


def at_most(context: int, responses: int) -> int:
    """How many shapes there can be.

    Args:
      context: the longest text [tokens].
      responses: the most to one prompt.
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
                suffixes = min(_power_of_two(responses), _most_suffixes(suffix))
                count += suffixes.bit_length()
    return count


def _in_pieces(row: Row) -> Iterator[Row]:
    """The row, its suffixes divided so that one call need not hold more than TOKENS_PER_CALL."""
    most = _most_suffixes(_padded(max(map(len, row.suffixes), default=0)))
    for at in range(0, len(row.suffixes), most):
        yield row._replace(suffixes=row.suffixes[at : at + most], where=row.where[at : at + most])


def _most_suffixes(padded: int) -> int:
    return max(TOKENS_PER_CALL // padded, 1)


def _padded(length: int) -> int:
    return max(_power_of_two(length), SHORTEST)


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _shape_of(row: Row) -> Shape:
    return Shape(
        _padded(len(row.prefix)),
        _power_of_two(len(row.suffixes)),
        _padded(max(map(len, row.suffixes))),
    )


def _grid(shape: Shape, rows: list[Row], prompts: int, grids: int) -> TokenGrid:
    """Rows padded to the shape; missing rows and suffixes are one padding id long."""
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
