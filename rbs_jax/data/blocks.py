"""Documents to fixed-length blocks of ids."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Block(NamedTuple):
    """A run of `block_length` ids cut from the concatenated documents of a shard."""

    tokens: Int[np.ndarray, " N"]
    first_document: int
    last_document: int
    """Documents are numbered in order, so a block touches those from first to last."""


def pack(
    documents: Iterable[list[int]], first_document: int, block_length: int, end_id: int
) -> Iterator[Block]:
    """Concatenate documents, one `end_id` after each, and cut into blocks.

    What remains after the last whole block is dropped; the ids that went in less
    those that came out count it.

    Args:
      documents: the ids of each document.
      first_document: number of the first of them; the others follow.
      block_length: ids of a block.
      end_id: the id that ends a document.
    """
    tokens: list[int] = []
    owners: list[int] = []
    for number, ids in enumerate(documents, start=first_document):
        tokens += ids
        tokens.append(end_id)
        owners += [number] * (len(ids) + 1)
        whole = len(tokens) // block_length * block_length
        for at in range(0, whole, block_length):
            to = at + block_length
            yield Block(np.array(tokens[at:to], np.int32), owners[at], owners[to - 1])
        del tokens[:whole], owners[:whole]
