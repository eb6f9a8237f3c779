"""What every program of benchmarks/step.py trains on: a shape, the same ids, the same settings."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.flops import keys_seen, layer_flops
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig

PAD = 0
"""Never drawn: transformers reads a score at the last id that is no padding."""
OBJECTIVE = ObjectiveConfig(centering_form="sum_square")
"""TRL has this form of centering alone."""
OPTIM = OptimConfig(learning_rate=1e-6, warmup_steps=1)
"""The first update has rate 0, so that all programs' first losses are of the same weights."""


class Shape(NamedTuple):
    """A grid: every one of `prefixes` suffixes after every prefix."""

    prefixes: int
    prefix: int
    """Of each prefix [tokens]."""
    suffix: int
    """Of each suffix [tokens]."""

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.prefixes},{self.prefix},{self.suffix}"

    @property
    def pairs(self) -> int:
        """Comparisons of a true suffix with a negative."""
        return self.prefixes * (self.prefixes - 1)


@dataclasses.dataclass(frozen=True)
class Task:
    """One step, however it is computed."""

    shape: Shape
    model: TransformerConfig
    folder: Path
    """The weights as a Hugging Face folder."""
    threads: int
    seed: int

    @property
    def dtype(self) -> str:
        """Of the trunk's products."""
        return self.model.dtype

    def texts(self) -> tuple[np.ndarray, np.ndarray]:
        """Random ids: prefixes [P, C] and suffixes [S, T]."""
        chance, (count, prefix, suffix) = np.random.default_rng(self.seed), self.shape
        drawn = (chance.integers(1, self.model.vocab_size, (count, n)) for n in (prefix, suffix))
        prefixes_PC, suffixes_ST = (ids.astype(np.int32) for ids in drawn)
        return prefixes_PC, suffixes_ST

    def whole_texts(self) -> np.ndarray:
        """Every suffix after every prefix, concatenated [P, S, C + T]."""
        prefixes_PC, suffixes_ST = self.texts()
        count = self.shape.prefixes
        before = np.repeat(prefixes_PC[:, None], count, axis=1)
        return np.concatenate([before, np.repeat(suffixes_ST[None], count, axis=0)], axis=-1)


class First(NamedTuple):
    """The step before any weight has moved."""

    loss: float
    gradient: float | None
    """Its norm; None where there is none of the whole grid."""


class Step(NamedTuple):
    """One timed step."""

    seconds: float
    memory: float
    """The most during the step, over that of the bare process; or on the device so far [bytes]."""


def forward_flops(
    model: TransformerConfig, texts: int, length: int, before: int = 0, last: str = "whole"
) -> float:
    """Forward FLOPs of texts, each behind tokens whose keys and values are kept.

    Two for each weight of a product and token, and four for each head's size and key that a
    token sees: those before its text, and of its own up to itself. Looking up embeddings
    costs none, the head's two for each width and text are left out. Backward costs twice that.

    Args:
      model: the sizes.
      texts: how many.
      length: of each [tokens].
      before: kept for each [tokens].
      last: of the last layer's work what is counted: the "whole", only the "keys" and
        values, or beside them only what a text's one "read" position needs.
    """
    layer = layer_flops(model)
    keys, rest = length * layer.keys_values, layer.query + layer.output
    whole = keys + length * rest + layer.key * keys_seen(before, length, window=None)
    last_layer = {
        "whole": whole,
        "keys": keys,
        "read": keys + rest + layer.key * (before + length),
    }[last]
    return texts * ((model.num_layers - 1) * whole + last_layer)


MATMUL = 20
"""Products in a row, to measure what the machine can do at most."""


def matmul_width(is_accelerator: bool) -> int:
    """Of the square matrices."""
    return 8192 if is_accelerator else 1024


def matmul_speed(seconds_of_products: Callable[[], float], width: int) -> float:
    """The best of several measurements of `MATMUL` products in a row [FLOP/s]."""
    return MATMUL * 2 * width**3 / min(seconds_of_products() for _ in range(4))
