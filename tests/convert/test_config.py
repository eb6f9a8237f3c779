import json

import pytest

from rbs_jax.convert.config import FAMILIES, HEADS, read_config
from rbs_jax.errors import UserError
from rbs_jax.model.config import RopeScaling

LLAMA3_ROPE = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
LLAMA_1B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": LLAMA3_ROPE,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
LLAMA_3B = LLAMA_1B | {
    "head_dim": 128,
    "hidden_size": 3072,
    "num_attention_heads": 24,
    "num_hidden_layers": 28,
}
LLAMA_8B = {
    **{name: value for name, value in LLAMA_1B.items() if name != "head_dim"},
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "rope_scaling": LLAMA3_ROPE | {"factor": 8.0},
    "tie_word_embeddings": False,
}
QWEN25_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN25_3B = QWEN25_7B | {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "max_position_embeddings": 32768,
    "max_window_layers": 36,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 2,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
QWEN3_06B = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
MISTRAL_7B = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 32000,
}
# vocab, width, mlp, layers, heads, kv heads, head, positions, theta, eps, tied
PUBLISHED = {
    "Llama-3.2-1B": (
        LLAMA_1B,
        (128256, 2048, 8192, 16, 32, 8, 64, 131072, 5e5, 1e-5, True),
        {"rope_scaling": RopeScaling(32.0, 1.0, 4.0, 8192)},
    ),
    "Llama-3.2-3B": (
        LLAMA_3B,
        (128256, 3072, 8192, 28, 24, 8, 128, 131072, 5e5, 1e-5, True),
        {"rope_scaling": RopeScaling(32.0, 1.0, 4.0, 8192)},
    ),
    "Llama-3.1-8B": (
        LLAMA_8B,
        (128256, 4096, 14336, 32, 32, 8, 128, 131072, 5e5, 1e-5, False),
        {"rope_scaling": RopeScaling(8.0, 1.0, 4.0, 8192)},
    ),
    "Qwen2.5-3B": (
        QWEN25_3B,
        (151936, 2048, 11008, 36, 16, 2, 128, 32768, 1e6, 1e-6, True),
        {"qkv_bias": True},
    ),
    "Qwen2.5-7B": (
        QWEN25_7B,
        (152064, 3584, 18944, 28, 28, 4, 128, 131072, 1e6, 1e-6, False),
        {"qkv_bias": True},
    ),
    "Qwen3-0.6B": (
        QWEN3_06B,
        (151936, 1024, 3072, 28, 16, 8, 128, 40960, 1e6, 1e-6, True),
        {"qk_norm": True},
    ),
    "Mistral-7B-v0.1": (
        MISTRAL_7B,
        (32000, 4096, 14336, 32, 32, 8, 128, 32768, 1e4, 1e-5, False),
        {"sliding_window": 4096},
    ),
}


def reading(folder, fields):
    (folder / "config.json").write_text(json.dumps(fields))
    return read_config(folder)


def without(fields, *names):
    return {name: value for name, value in fields.items() if name not in names}


def refusal(folder, fields):
    with pytest.raises(UserError) as raised:
        reading(folder, fields)
    message = str(raised.value)
    assert message.startswith(f"{folder / 'config.json'}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_gives_its_sizes_and_choices(name, tmp_path):
    fields, sizes, choices = PUBLISHED[name]
    head, c = reading(tmp_path, fields)
    assert head == "CausalLM"
    assert sizes == (
        *(c.vocab_size, c.width, c.mlp_width, c.num_layers, c.num_heads, c.num_kv_heads),
        *(c.head_dim, c.max_positions, c.rope_theta, c.norm_eps, c.tied_embeddings),
    )
    plain = {"rope_scaling": None, "qkv_bias": False, "qk_norm": False, "sliding_window": None}
    assert {field: getattr(c, field) for field in plain} == plain | choices


@pytest.mark.parametrize("name", PUBLISHED)
def test_old_and_new_words_for_rotary_positions_say_the_same(name, tmp_path):
    old = PUBLISHED[name][0]
    rope = {
        "rope_type": "default",
        "rope_theta": old["rope_theta"],
        **(old.get("rope_scaling") or {}),
    }
    new = {**without(old, "rope_theta", "rope_scaling"), "rope_parameters": rope}
    assert reading(tmp_path, new) == reading(tmp_path, old)


def test_older_words_for_the_kind_of_rotary_scaling_are_known(tmp_path):
    named_type = {**without(LLAMA3_ROPE, "rope_type"), "type": "llama3"}
    old = reading(tmp_path, LLAMA_1B | {"rope_scaling": named_type})
    assert old == reading(tmp_path, LLAMA_1B)


def test_without_a_field_for_them_there_are_as_many_kv_heads_as_heads(tmp_path):
    config = reading(tmp_path, without(LLAMA_1B, "num_key_value_heads")).config
    assert config.num_kv_heads == config.num_heads == 32


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_three_heads(family, head, tmp_path):
    fields = MISTRAL_7B | {"architectures": [f"{family}For{head}"], "num_labels": 1}
    assert reading(tmp_path, fields).head == head


def test_one_label_may_be_said_by_a_name_or_a_number(tmp_path):
    rewards = LLAMA_1B | {"architectures": ["LlamaForSequenceClassification"]}
    assert reading(tmp_path, rewards | {"id2label": {"0": "LABEL_0"}}) == reading(
        tmp_path, rewards | {"num_labels": 1}
    )
    for two in ({}, {"num_labels": 2}, {"id2label": {"0": "bad", "1": "good"}}):
        assert "num_labels is 2, supported is 1" in refusal(tmp_path, rewards | two)


def test_an_offset_that_export_wrote_is_read(tmp_path):
    assert reading(tmp_path, LLAMA_1B | {"rbs_jax_head_offset": -1.5}).config.head_offset == -1.5


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        (QWEN3_06B | {"use_sliding_window": True, "sliding_window": 512}, None),
        (QWEN3_06B | {"use_sliding_window": True, "sliding_window": None}, None),
        (
            QWEN3_06B | {"use_sliding_window": True, "sliding_window": 512, "max_window_layers": 0},
            512,
        ),
        (
            QWEN3_06B
            | {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 14},
            None,
        ),
        (
            without(QWEN3_06B, "max_window_layers")
            | {"use_sliding_window": True, "sliding_window": 512},
            None,
        ),
        (without(QWEN25_7B, "use_sliding_window") | {"max_window_layers": 0}, None),
        (QWEN25_7B | {"layer_types": ["full_attention"] * 28}, None),
        (QWEN25_7B | {"layer_types": ["sliding_attention"] * 28}, 131072),
        (MISTRAL_7B | {"sliding_window": None}, None),
        (MISTRAL_7B | {"max_window_layers": 7}, 4096),
        (without(MISTRAL_7B, "sliding_window"), 4096),
        (
            LLAMA_1B | {"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 0},
            None,
        ),
    ],
)
def test_the_window_is_what_transformers_makes_of_the_fields(fields, window, tmp_path):
    assert reading(tmp_path, fields).config.sliding_window == window


@pytest.mark.parametrize(
    "fields",
    [
        QWEN3_06B | {"use_sliding_window": True, "sliding_window": 512, "max_window_layers": 14},
        QWEN3_06B | {"layer_types": ["full_attention"] * 27 + ["sliding_attention"]},
    ],
)
def test_layers_that_differ_in_their_window_are_refused(fields, tmp_path):
    assert "layer_types is ['full_attention', 'sliding_attention'], supported" in refusal(
        tmp_path, fields
    )


def test_an_unknown_kind_of_layer_is_refused_even_where_all_layers_have_it(tmp_path):
    message = refusal(tmp_path, QWEN3_06B | {"layer_types": ["chunked_attention"] * 28})
    assert "layer_types is ['chunked_attention'], supported is full_attention or" in message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is gelu, supported is silu"),
        ({"attention_bias": True}, "attention_bias is True, supported is false"),
        ({"mlp_bias": True}, "mlp_bias is True, supported is false"),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            "quantization_config is {'quant_method': 'gptq'}, supported is none",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            "rope_type is yarn, supported is default, llama3",
        ),
        (
            {"rope_scaling": None, "rope_parameters": {"rope_type": "linear", "factor": 2.0}},
            "rope_type is linear, supported is default, llama3",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, supported is 1"),
        (
            {"rope_scaling": None, "rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
            "rope_parameters is ['full_attention'], supported is the same for all layers",
        ),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"rms_norm_eps": None}, "rms_norm_eps is missing"),
        ({"rope_scaling": without(LLAMA3_ROPE, "factor")}, "factor is missing"),
        ({"rope_scaling": "llama3"}, "a field has the wrong type"),
        ({"layer_types": 16}, "a field has the wrong type"),
        ({"hidden_size": [2048]}, "a field has the wrong type"),
        ({"num_key_value_heads": 5}, "model.num_heads 32 is no multiple"),
    ],
)
def test_what_is_not_supported_is_named_with_what_is(changed, said, tmp_path):
    assert said in refusal(tmp_path, LLAMA_1B | changed)


def test_all_that_is_not_supported_is_named_at_once(tmp_path):
    bad = {"hidden_act": "relu", "attention_bias": True, "rope_scaling": {"rope_type": "dynamic"}}
    message = refusal(tmp_path, without(LLAMA_1B, "vocab_size", "rms_norm_eps") | bad)
    for field in ("vocab_size", "rms_norm_eps", "hidden_act", "attention_bias", "rope_type"):
        assert f"{field} is " in message


@pytest.mark.parametrize(
    "named", [["GemmaForCausalLM"], ["Qwen3ForQuestionAnswering"], [], None, "LlamaForCausalLM"]
)
def test_another_architecture_is_refused_with_those_supported(named, tmp_path):
    message = refusal(tmp_path, LLAMA_1B | {"architectures": named})
    assert (
        f"architectures is {named or [None]}; supported are Llama, Qwen2, Qwen3, Mistral" in message
    )
    assert "ForCausalLM, ForSequenceClassification, ForTokenClassification" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), ("{", "not valid JSON"), ("[]", "not a JSON object")],
)
def test_a_file_that_is_no_config_is_refused(content, said, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"config.json: {said}"):
        read_config(tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("name", PUBLISHED)
def test_what_transformers_writes_of_a_published_config_says_the_same(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    fields = PUBLISHED[name][0]
    before = reading(tmp_path, fields)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    assert read_config(tmp_path) == before
