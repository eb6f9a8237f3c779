"""Tiny random torch models of each family, odd sizes on purpose, saved as Hugging Face folders."""

from typing import NamedTuple

import pytest

SIZES = {
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 3,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


class Family(NamedTuple):
    """A name of transformers', and fields of its config beyond SIZES."""

    name: str
    fields: dict


FAMILIES = {
    "llama": Family("Llama", {"tie_word_embeddings": False}),
    "llama3 tied": Family("Llama", {"tie_word_embeddings": True, "rope_scaling": LLAMA3_ROPE}),
    "qwen2": Family("Qwen2", {"tie_word_embeddings": True, "head_dim": None}),
    "qwen3": Family("Qwen3", {"tie_word_embeddings": False, "rope_theta": 1e6}),
    "mistral": Family("Mistral", {"sliding_window": 5, "tie_word_embeddings": False}),
    "mistral without window": Family("Mistral", {"sliding_window": None}),
}


def torch_model(family, head="CausalLM", seed=0, **changed):
    """A random model with every weight, norms and biases too, away from its default."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    fields = SIZES | FAMILIES[family].fields | changed
    fields = {name: value for name, value in fields.items() if value is not None}
    if head != "CausalLM":
        fields |= {"num_labels": 1}
    name = FAMILIES[family].name
    if FAMILIES[family].fields.get("sliding_window", 0) is None:
        fields["sliding_window"] = None
    config = getattr(transformers, f"{name}Config")(**fields)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}For{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def saved(model, folder, **how):
    """The folder of a torch model, as its publishers write it."""
    model.save_pretrained(folder, **how)
    return folder
