"""One table of names, read both ways: whose tensor is which of our leaves, and how it is laid out.

A linear layer is [out, in] there and [in, out] here, and heads are axes of their own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import einops
import numpy as np

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import shape_of


class Tensor(NamedTuple):
    """A tensor of a Hugging Face folder, and the part of a leaf of ours that it holds."""

    name: str
    """Theirs."""
    path: str
    """Ours, as `jax.tree_util.keystr` gives it, without `.value`."""
    layer: int | None
    """Row of the leaf, whose first axis is L; None where the leaf is the whole tensor."""
    theirs: str
    """Their axes by letter, in einops' notation."""
    letters: str
    """Our axes, without L."""

    def shape(self, config: TransformerConfig) -> tuple[int, ...]:
        """Their shape."""
        empty = np.broadcast_to(np.zeros((), bool), shape_of(self.letters, config))
        return self.to_theirs(empty, config).shape

    def to_ours(self, x: np.ndarray, config: TransformerConfig) -> np.ndarray:
        """Their array in our layout: a view."""
        return einops.rearrange(x, f"{self.theirs} -> {' '.join(self.letters)}", **self._of(config))

    def to_theirs(self, x: np.ndarray, config: TransformerConfig) -> np.ndarray:
        """Our array in their layout."""
        return einops.rearrange(x, f"{' '.join(self.letters)} -> {self.theirs}", **self._of(config))

    def _of(self, config: TransformerConfig) -> dict[str, int]:
        return {letter: config.sizes()[letter] for letter in self.letters}


LAYER = {
    "input_layernorm.weight": (".attention_norm", "D", "D"),
    "self_attn.q_proj.weight": (".attention.query", "(K Q H) D", "DKQH"),
    "self_attn.k_proj.weight": (".attention.key", "(K H) D", "DKH"),
    "self_attn.v_proj.weight": (".attention.value", "(K H) D", "DKH"),
    "self_attn.q_proj.bias": (".attention.biases.query", "(K Q H)", "KQH"),
    "self_attn.k_proj.bias": (".attention.biases.key", "(K H)", "KH"),
    "self_attn.v_proj.bias": (".attention.biases.value", "(K H)", "KH"),
    "self_attn.q_norm.weight": (".attention.norms.query", "H", "H"),
    "self_attn.k_norm.weight": (".attention.norms.key", "H", "H"),
    "self_attn.o_proj.weight": (".attention.out", "D (K Q H)", "KQHD"),
    "post_attention_layernorm.weight": (".mlp_norm", "D", "D"),
    "mlp.gate_proj.weight": (".mlp.gate", "F D", "DF"),
    "mlp.up_proj.weight": (".mlp.up", "F D", "DF"),
    "mlp.down_proj.weight": (".mlp.down", "D F", "FD"),
}
"""Of each layer; biases and query and key norms where the config has them."""
REWARD_HEAD = "score.weight"
REWARD_BIAS = "score.bias"
LANGUAGE_HEAD = "lm_head.weight"
OUTSIDE = {
    "model.embed_tokens.weight": (".trunk.embedding", "V D", "VD"),
    "model.norm.weight": (".trunk.final_norm", "D", "D"),
    REWARD_HEAD: (".head", "1 D", "D"),
    LANGUAGE_HEAD: (".head.weight", "V D", "VD"),
}


def tensors(paths: set[str], config: TransformerConfig) -> Iterator[Tensor]:
    """The tensors of a model that has leaves at these paths, in the order of its layers.

    Raises:
      AssertionError: a leaf has no name, a defect of the table.
    """
    rows = {path: (name, theirs, letters) for name, (path, theirs, letters) in OUTSIDE.items()}
    for name, (path, theirs, letters) in LAYER.items():
        rows[f".trunk.blocks{path}"] = (name, theirs, letters)
    assert paths <= set(rows), f"no name for {paths - set(rows)}"
    layered = [path for path in rows if path in paths and path.startswith(".trunk.blocks")]
    embedding, *others = (path for path in rows if path in paths and path not in layered)
    yield _tensor(rows, embedding)
    for layer in range(config.num_layers):
        for path in layered:
            name, theirs, letters = rows[path]
            yield Tensor(f"model.layers.{layer}.{name}", path, layer, theirs, letters)
    for path in others:
        yield _tensor(rows, path)


def _tensor(rows: dict[str, tuple[str, str, str]], path: str) -> Tensor:
    name, theirs, letters = rows[path]
    return Tensor(name, path, None, theirs, letters)


def axes(path: str) -> str:
    """The axes of a leaf of ours, by letter."""
    for own, _, letters in LAYER.values():
        if path == f".trunk.blocks{own}":
            return f"L{letters}"
    return next(letters for own, _, letters in OUTSIDE.values() if own == path)
