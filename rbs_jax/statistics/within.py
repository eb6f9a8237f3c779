"""Scored responses one by one, and what is left of values beyond what their prompt gives them."""

import numpy as np
from jaxtyping import Bool, Float, Int

Prompts = Int[np.ndarray, " N"]
"""The number of the prompt that each response answers."""


def comparable(prompts: Prompts) -> Bool[np.ndarray, " N"]:
    """Which responses have another one to the same prompt."""
    _, at, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    return counts[at] > 1


def centred(values: Float[np.ndarray, " N"], prompts: Prompts) -> Float[np.ndarray, " N"]:
    """Values minus their prompt's mean, in their unit; exactly 0 where a prompt's are equal."""
    _, first, at = np.unique(prompts, return_index=True, return_inverse=True)
    apart = values - values[first][at]  # so that no mean of equal values is rounded
    return apart - (np.bincount(at, apart) / np.bincount(at))[at]


def correlation(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> float | None:
    """Of centred values, a.b / (|a| |b|); None where one of them is all zeros, or for n = 0."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return None if norms == 0 else float(np.clip(a @ b / norms, -1, 1))


def ranks(values: Float[np.ndarray, " N"], prompts: Prompts) -> Float[np.ndarray, " N"]:
    """Ranks within each prompt, plus a number for each prompt; equal values have equal ranks."""
    pairs = np.stack([prompts, values], axis=1)
    _, at, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]
