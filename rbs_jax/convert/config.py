"""A Hugging Face config.json and what it says of the model, both ways."""

import json
from collections.abc import Callable, Mapping
from operator import not_
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rbs_jax.errors import UserError
from rbs_jax.model.config import RopeScaling, TransformerConfig

Head = Literal["CausalLM", "SequenceClassification", "TokenClassification"]
FAMILIES = ("Llama", "Qwen2", "Qwen3", "Mistral")
HEADS: tuple[Head, ...] = ("CausalLM", "SequenceClassification", "TokenClassification")
SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "mlp_width": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "max_positions": "max_position_embeddings",
}
"""Our field -> theirs."""
FULL, SLIDING = "full_attention", "sliding_attention"
OFFSET = "rbs_jax_head_offset"
"""What a head's bias is called in a folder whose architecture has none; others do not add it."""


class Described(NamedTuple):
    """What a config.json says."""

    head: Head
    config: TransformerConfig
    """The sizes and choices of the trunk; fields that it does not say have their defaults."""


def read_config(folder: Path) -> Described:
    """What the config.json of a Hugging Face folder says.

    Raises:
      UserError: it is no such file, or names what is not supported: all at once.
    """
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; a Hugging Face folder has one") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path}: not a JSON object")
    family, head = _architecture(path, fields)
    try:
        problems = [*_missing(fields), *_unsupported(family, fields, head)]
        if problems:
            raise UserError("; ".join(problems))
        return Described(head, _transformer(family, fields))
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]} is missing") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{path}: a field has the wrong type: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _architecture(path: Path, fields: Mapping[str, Any]) -> tuple[str, Head]:
    named = fields.get("architectures") or [None]
    for family in FAMILIES:
        for head in HEADS:
            if named == [f"{family}For{head}"]:
                return family, head
    raise UserError(
        f"{path}: architectures is {named}; supported are {', '.join(FAMILIES)}, "
        f"each For{', For'.join(HEADS)}"
    )


def _missing(fields: Mapping[str, Any]) -> list[str]:
    wanted = [*SIZES.values(), "rms_norm_eps"]
    wanted.remove("num_key_value_heads")  # as many as query heads, before there were groups
    return [f"{name} is missing" for name in wanted if fields.get(name) is None]


def _unsupported(family: str, fields: Mapping[str, Any], head: Head) -> list[str]:
    rope = _rope(fields)
    checks: list[tuple[str, Any, Callable[[Any], bool], str]] = [
        ("hidden_act", fields.get("hidden_act", "silu"), lambda act: act == "silu", "silu"),
        ("attention_bias", fields.get("attention_bias"), not_, "false"),
        ("mlp_bias", fields.get("mlp_bias"), not_, "false"),
        ("quantization_config", fields.get("quantization_config"), not_, "none"),
        (
            "rope_type",
            rope.get("rope_type") or rope.get("type") or "default",
            lambda kind: kind in ("default", "llama3"),
            "default, llama3",
        ),
        (
            "partial_rotary_factor",
            rope.get("partial_rotary_factor", fields.get("partial_rotary_factor")),
            lambda share: share in (None, 1.0),
            "1",
        ),
        (
            "rope_parameters",
            [name for name, value in rope.items() if isinstance(value, dict)],
            not_,
            "the same for all layers",
        ),
        (
            "layer_types",
            sorted(_layer_types(family, fields)),
            lambda kinds: kinds in ([FULL], [SLIDING]),
            f"{FULL} or {SLIDING} for all layers",
        ),
    ]
    if head != "CausalLM":
        labels = fields.get("num_labels", len(fields.get("id2label") or (0, 1)))
        checks.append(("num_labels", labels, lambda count: count == 1, "1"))
    return [
        f"{name} is {value}, supported is {supported}"
        for name, value, is_supported, supported in checks
        if not is_supported(value)
    ]


def _rope(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of rotary positions: in rope_parameters now, in two fields before."""
    return {
        "rope_theta": fields.get("rope_theta"),
        **(fields.get("rope_scaling") or {}),
        **(fields.get("rope_parameters") or {}),
    }


def _layer_types(family: str, fields: Mapping[str, Any]) -> set[str]:
    """The kinds of attention that the layers have."""
    if fields.get("layer_types"):
        return set(fields["layer_types"])
    # Qwen says whether its window counts, and from which layer on; Mistral's always does.
    has_window = family == "Mistral" or (family != "Llama" and fields.get("use_sliding_window"))
    if not has_window or _window(fields) is None:
        return {FULL}
    if family == "Mistral":
        return {SLIDING}
    layers, first = fields.get("num_hidden_layers") or 0, fields.get("max_window_layers", 28)
    return ({FULL} if first > 0 else set()) | ({SLIDING} if first < layers else set())


def _window(fields: Mapping[str, Any]) -> int | None:
    return fields.get("sliding_window", 4096)  # transformers' own default


def _transformer(family: str, fields: Mapping[str, Any]) -> TransformerConfig:
    rope = _rope(fields)
    sizes: dict[str, Any] = {our: int(fields.get(its) or 0) for our, its in SIZES.items()}
    sizes["num_kv_heads"] = sizes["num_kv_heads"] or sizes["num_heads"]
    head_dim = fields.get("head_dim") or sizes["width"] // max(sizes["num_heads"], 1)
    scaling = None
    if (rope.get("rope_type") or rope.get("type")) == "llama3":
        scaling = RopeScaling(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_positions=int(rope["original_max_position_embeddings"]),
        )
    window = _window(fields) if SLIDING in _layer_types(family, fields) else None
    return TransformerConfig(
        **sizes,
        head_dim=int(head_dim),
        rope_theta=float(rope["rope_theta"] or 10_000.0),
        rope_scaling=scaling,
        norm_eps=float(fields["rms_norm_eps"]),
        qkv_bias=family == "Qwen2",
        qk_norm=family == "Qwen3",
        sliding_window=None if window is None else int(window),
        tied_embeddings=bool(fields.get("tie_word_embeddings", False)),
        head_offset=float(fields.get(OFFSET, 0.0)),
    )


def config_json(
    config: TransformerConfig, head: Head, dtype: str, special_ids: Mapping[str, int | None]
) -> dict[str, Any]:
    """The config.json of a model, in the words that every reader knows.

    Args:
      config: the model.
      head: CausalLM, or SequenceClassification for a reward model.
      dtype: of its tensors.
      special_ids: bos_token_id, eos_token_id and pad_token_id, which must not be the end's.

    Raises:
      UserError: no family has what the model has.
    """
    family = _family(config)
    fields: dict[str, Any] = {
        "architectures": [f"{family}For{head}"],
        "model_type": family.lower(),
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": config.init_scale,
        "tie_word_embeddings": config.tied_embeddings,
        "use_cache": head == "CausalLM",
        "torch_dtype": dtype,
        **special_ids,
    }
    if config.rope_scaling is not None:
        fields["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": config.rope_scaling.factor,
            "low_freq_factor": config.rope_scaling.low_freq_factor,
            "high_freq_factor": config.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": config.rope_scaling.original_positions,
        }
    if family == "Mistral" or config.sliding_window is not None:
        fields["sliding_window"] = config.sliding_window
    if family.startswith("Qwen"):
        fields["use_sliding_window"] = config.sliding_window is not None
        fields["max_window_layers"] = 0 if config.sliding_window is not None else config.num_layers
    if head != "CausalLM":
        # vLLM takes a sigmoid of the score unless it is called a regression's.
        fields |= {
            "num_labels": 1,
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
            "problem_type": "regression",
        }
    if config.head_offset:
        fields[OFFSET] = config.head_offset
    return fields


def _family(config: TransformerConfig) -> str:
    if config.qk_norm and config.qkv_bias:
        raise UserError("model.qk_norm with model.qkv_bias: no Hugging Face architecture has both")
    if config.qk_norm or config.qkv_bias:
        return "Qwen3" if config.qk_norm else "Qwen2"
    if config.sliding_window is not None:
        return "Mistral"
    if config.width % config.num_heads:
        raise UserError(
            f"model.width {config.width} is no multiple of model.num_heads {config.num_heads}: "
            "transformers refuses such a Llama"
        )
    return "Llama"
