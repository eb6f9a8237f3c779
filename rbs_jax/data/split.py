"""A block to its prefix and suffix."""

import dataclasses

import numpy as np
from jaxtyping import Int

from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """A breakpoint at a fixed position."""

    prefix_length: int = 64
    """L1, ids before the breakpoint [tokens]."""
    suffix_length: int = 64
    """L2, ids after it [tokens]; always exactly this many, so that a length tells nothing."""

    def __post_init__(self) -> None:
        if self.prefix_length < 1 or self.suffix_length < 1:
            raise UserError("split.prefix_length and suffix_length must be at least 1")


def split(
    tokens: Int[np.ndarray, "B N"], config: SplitConfig
) -> tuple[Int[np.ndarray, "B C"], Int[np.ndarray, "B T"]]:
    """Prefixes and suffixes of blocks; what a block holds beyond L1 + L2 ids is not used."""
    breakpoint_, stop = config.prefix_length, config.prefix_length + config.suffix_length
    return tokens[:, :breakpoint_], tokens[:, breakpoint_:stop]
