"""The alphabet of array axes, and the records that pass between the rooms.

A letter means the same in a variable's name (`r_GPS`), in an einsum and in the
sharding tables:

    G  grids of a step              Q  query heads per kv head
    P  prefixes of a grid           H  size of a head
    S  suffixes of a grid           F  hidden width of the mlp
    C  prefix (context) positions   V  vocabulary
    T  suffix positions             L  layers (scanned)
    U  positions of keys, where     K  kv heads
       queries have T               D  width of the model

This file imports no jax: the data room uses it too, with numpy arrays.
"""

from typing import Any, NamedTuple

from jaxtyping import Bool, Int


class TokenGrid(NamedTuple):
    """Prefixes and suffixes to be scored, every suffix after every prefix of its grid.

    Token ids after an array's length are padding: any value, never seen by a
    score. A prefix may be empty (length 0), a suffix holds at least one token.
    """

    prefixes: Int[Any, "G P C"]
    prefix_lengths: Int[Any, "G P"]
    suffixes: Int[Any, "G S T"] | Int[Any, "G P S T"]
    """Shared by the grid's prefixes [G, S, T], or each prefix's own [G, P, S, T]."""
    suffix_lengths: Int[Any, "G S"] | Int[Any, "G P S"]


class GridBatch(NamedTuple):
    """What one training step reads: grids of text, and which suffix is the true one."""

    tokens: TokenGrid
    positive: Int[Any, "G P"]
    """Column of each prefix's true suffix."""
    negatives: Bool[Any, "G P S"]
    """Which suffixes the true one must beat; False at the true suffix itself."""


class TokenBlocks(NamedTuple):
    """What one step of language modelling reads: whole blocks, packed with documents."""

    tokens: Int[Any, "G P T"]
    segments: Int[Any, "G P T"]
    """The document of each position, counted within its block; documents see only themselves."""
