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
    documents: Iterable[list[int]],
    first_document: int,
    block_length: int,
    end_id: int,
    overlap: int = 0,
) -> Iterator[Block]:
    """Concatenate documents, one `end_id` after each, and cut into blocks.

    What remains after the last whole block is dropped.

    Args:
      documents: the ids of each document.
      first_document: number of the first of them; the others follow.
      block_length: ids of a block.
      end_id: the id that ends a document.
      overlap: ids that a block shares with the one before it.
    """
    stride = block_length - overlap
    tokens = np.empty(0, np.int32)
    ends = np.empty(0, np.int64)  # where each document of `tokens` ends
    number = first_document  # of the first document in `tokens`
    for ids in documents:
        tokens = np.concatenate([tokens, np.array([*ids, end_id], np.int32)])
        ends = np.append(ends, len(tokens))
        count = (len(tokens) - overlap) // stride
        if count <= 0:
            continue
        starts = np.arange(count) * stride
        owners = np.searchsorted(ends, [starts, starts + block_length - 1], side="right") + number
        for at, first, last in zip(starts, *owners.tolist(), strict=True):
            yield Block(tokens[at : at + block_length], first, last)
        tokens, ends = tokens[count * stride :], ends - count * stride
        gone = np.searchsorted(ends, 0, side="right")
        ends, number = ends[gone:], number + int(gone)
