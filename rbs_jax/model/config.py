"""The sizes and choices that make a decoder a Llama 3, Qwen2.5, Qwen3 or Mistral."""

import dataclasses
from typing import Literal

from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of the rotary frequencies to longer contexts."""

    factor: float = 32.0
    """How many times longer the context becomes."""
    low_freq_factor: float = 1.0
    """Wavelengths above original_positions / low_freq_factor are stretched fully."""
    high_freq_factor: float = 4.0
    """Wavelengths below original_positions / high_freq_factor are left alone."""
    original_positions: int = 8192
    """Context length the model was first trained with [tokens]."""

    def __post_init__(self) -> None:
        if min(self.factor, self.low_freq_factor, self.original_positions) <= 0:
            raise UserError("model.rope_scaling: factors and positions must be positive")
        if self.high_freq_factor <= self.low_freq_factor:
            raise UserError("model.rope_scaling: high_freq_factor must exceed low_freq_factor")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A decoder with grouped-query attention, rotary positions, RMSNorm and a gated mlp."""

    vocab_size: int = 8192
    """Rows of the embedding table; at least the tokenizer's ids."""
    width: int = 128
    """Size of the residual stream."""
    mlp_width: int = 384
    """Hidden size of the gated mlp."""
    num_layers: int = 3
    """Decoder layers."""
    num_heads: int = 4
    """Query heads; a multiple of num_kv_heads."""
    num_kv_heads: int = 4
    """Key and value heads."""
    head_dim: int = 32
    """Size of a head; need not be width / num_heads."""
    max_positions: int = 2048
    """Longest prefix plus suffix the model is meant for [tokens]."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """Stretching of the rotary frequencies, set in the config file; None for none."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    qkv_bias: bool = False
    """Biases on the query, key and value projections (Qwen2)."""
    qk_norm: bool = False
    """RMSNorm over each query and key head (Qwen3)."""
    sliding_window: int | None = None
    """Latest positions that a query sees, its own among them (Mistral); None for all [tokens]."""
    tied_embeddings: bool = True
    """Whether the vocabulary head is the embedding table (a reward model has none)."""
    init_scale: float = 0.02
    """Standard deviation of fresh weights, the head's too, all drawn from a normal."""
    head_offset: float = 0.0
    """Added to every reward and never trained: the bias of a head that was loaded with one."""
    init: str | None = None
    """A MODEL whose weights to start from, a run or a Hugging Face folder, which then says every
    size above; None for fresh weights from the seed.
    """
    dtype: Literal["float32", "bfloat16", "float64"] = "bfloat16"
    """Compute dtype of the trunk; parameters, head and scores are float32 (float64: tests)."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes: nothing, all but products with weights, everything."""
    scan_layers: bool = True
    """Whether one layer's program serves all; without, each has its own, which takes longer to
    compile and runs faster on CPU."""

    def __post_init__(self) -> None:
        at_least_1 = ("vocab_size", "width", "mlp_width", "num_layers", "num_kv_heads")
        for field in (*at_least_1, "num_heads", "head_dim"):
            if getattr(self, field) < 1:
                raise UserError(f"model.{field} is {getattr(self, field)}, it must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"model.num_heads {self.num_heads} is no multiple of "
                f"model.num_kv_heads {self.num_kv_heads}"
            )
        if self.sliding_window is not None and self.sliding_window < 1:
            raise UserError(f"model.sliding_window is {self.sliding_window}, it must be at least 1")
        if self.head_dim % 2:
            raise UserError(f"model.head_dim {self.head_dim} is odd, rotary positions need pairs")

    def sizes(self) -> dict[str, int]:
        """The length of every weight axis, by its letter."""
        return {
            "L": self.num_layers,
            "V": self.vocab_size,
            "D": self.width,
            "K": self.num_kv_heads,
            "Q": self.num_heads // self.num_kv_heads,
            "H": self.head_dim,
            "F": self.mlp_width,
        }
