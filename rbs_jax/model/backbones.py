"""The published sizes of the backbones in configs/; parameters are counted as published."""

from rbs_jax.model.config import RopeScaling, TransformerConfig

LLAMA32_1B = TransformerConfig(
    vocab_size=128_256,
    width=2048,
    mlp_width=8192,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    max_positions=131_072,
    rope_theta=500_000.0,
    rope_scaling=RopeScaling(factor=32.0),
    remat="full",
)
"""meta-llama/Llama-3.2-1B, 1,235,814,400 parameters."""

LLAMA32_3B = TransformerConfig(
    vocab_size=128_256,
    width=3072,
    mlp_width=8192,
    num_layers=28,
    num_heads=24,
    num_kv_heads=8,
    head_dim=128,
    max_positions=131_072,
    rope_theta=500_000.0,
    rope_scaling=RopeScaling(factor=32.0),
    remat="full",
)
"""meta-llama/Llama-3.2-3B, 3,212,749,824 parameters."""

LLAMA31_8B = TransformerConfig(
    vocab_size=128_256,
    width=4096,
    mlp_width=14_336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_positions=131_072,
    rope_theta=500_000.0,
    rope_scaling=RopeScaling(factor=8.0),
    tied_embeddings=False,
    remat="full",
)
"""meta-llama/Llama-3.1-8B, 8,030,261,248 parameters, the untied vocabulary head among them."""

QWEN25_3B = TransformerConfig(
    vocab_size=151_936,
    width=2048,
    mlp_width=11_008,
    num_layers=36,
    num_heads=16,
    num_kv_heads=2,
    head_dim=128,
    max_positions=32_768,
    rope_theta=1_000_000.0,
    norm_eps=1e-6,
    qkv_bias=True,
    remat="full",
)
"""Qwen/Qwen2.5-3B-Instruct, 3,085,938,688 parameters."""

QWEN25_7B = TransformerConfig(
    vocab_size=152_064,
    width=3584,
    mlp_width=18_944,
    num_layers=28,
    num_heads=28,
    num_kv_heads=4,
    head_dim=128,
    max_positions=32_768,
    rope_theta=1_000_000.0,
    norm_eps=1e-6,
    qkv_bias=True,
    tied_embeddings=False,
    remat="full",
)
"""Qwen/Qwen2.5-7B-Instruct, 7,615,616,512 parameters, the untied vocabulary head among them."""

QWEN3_0_6B = TransformerConfig(
    vocab_size=151_936,
    width=1024,
    mlp_width=3072,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
    max_positions=40_960,
    rope_theta=1_000_000.0,
    norm_eps=1e-6,
    qk_norm=True,
    remat="full",
)
"""Qwen/Qwen3-0.6B, 596,049,920 parameters."""
