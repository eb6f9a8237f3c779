import dataclasses
import json
import pickle
import re
import weakref

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from safetensors.numpy import save_file

from rbs_jax.convert.config import read_config
from rbs_jax.convert.names import LAYER, OUTSIDE, Tensor, tensors
from rbs_jax.convert.safetensors import TensorFolder
from rbs_jax.convert.weights import by_layers, filled, head_offset, leaf_paths, read_weights
from rbs_jax.errors import UserError
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.sharding import MeshConfig, make_mesh, weight_spec
from tests.convert.folders import (
    KINDS,
    TINY,
    paths_of,
    random_tensors,
    write_config,
    write_folder,
    write_index,
    write_tensors,
)

CONFIGS = {
    "untied": TINY,
    "tied": dataclasses.replace(TINY, tied_embeddings=True),
    "biases": dataclasses.replace(TINY, qkv_bias=True),
    "query and key norms": dataclasses.replace(TINY, qk_norm=True),
}
QUERY, NORM = "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"


def leaves_of(folder, kind=LanguageModel, shape=(1, 1, 1), may_lack=frozenset()):
    """The leaves of a model of this kind that a folder holds."""
    described, mesh = read_config(folder), make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        paths = paths_of(kind, described.config)
        return read_weights(folder, described, paths, set(may_lack), mesh)


def expected_leaves(arrays, config, kind):
    """The same by hand: float32, transposed, heads apart, layers stacked."""
    D, K, H, F = config.width, config.num_kv_heads, config.head_dim, config.mlp_width
    Q = config.num_heads // K
    wide = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
    shapes = {
        "self_attn.q_proj.weight": (D, K, Q, H),
        "self_attn.k_proj.weight": (D, K, H),
        "self_attn.v_proj.weight": (D, K, H),
        "self_attn.o_proj.weight": (K, Q, H, D),
        "self_attn.q_proj.bias": (K, Q, H),
        "self_attn.k_proj.bias": (K, H),
        "self_attn.v_proj.bias": (K, H),
        "mlp.gate_proj.weight": (D, F),
        "mlp.up_proj.weight": (D, F),
        "mlp.down_proj.weight": (F, D),
    }
    leaves = {}
    for name, (path, *_) in LAYER.items():
        layers = [wide.get(f"model.layers.{layer}.{name}") for layer in range(config.num_layers)]
        if layers[0] is not None:
            shape = shapes.get(name, layers[0].shape)
            leaves[f".trunk.blocks{path}"] = np.stack([x.T.reshape(shape) for x in layers])
    for name, (path, *_) in OUTSIDE.items():
        if name in wide and path in paths_of(kind, config):
            leaves[path] = wide[name].reshape(-1) if name == "score.weight" else wide[name]
    return leaves


def assert_same(got, expected):
    assert set(got) == set(expected)
    for path, leaf in got.items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(leaf), expected[path], err_msg=path)


def refusal(folder, kind=LanguageModel, **how):
    with pytest.raises(UserError) as raised:
        leaves_of(folder, kind, **how)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("head", KINDS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_leaf_is_their_tensor_in_our_layout(config, head, tmp_path):
    arrays = write_folder(tmp_path, config, head)
    got = leaves_of(tmp_path, KINDS[head])
    assert set(got) == paths_of(KINDS[head], config)
    assert_same(got, expected_leaves(arrays, config, KINDS[head]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_on_disk_is_its_float32_values_bitwise(dtype, tmp_path):
    arrays = write_folder(tmp_path, dtype=dtype)
    assert_same(leaves_of(tmp_path), expected_leaves(arrays, TINY, LanguageModel))


def test_several_shards_with_an_index_hold_what_one_file_does(tmp_path):
    arrays = write_folder(tmp_path / "one")
    write_folder(tmp_path / "five", shards=5)
    assert len(list((tmp_path / "five").glob("*.safetensors"))) == 5
    one, five = leaves_of(tmp_path / "one"), leaves_of(tmp_path / "five")
    assert_same(five, one)
    assert_same(five, expected_leaves(arrays, TINY, LanguageModel))


@pytest.mark.parametrize("config", [CONFIGS["biases"], CONFIGS["query and key norms"]])
def test_a_mesh_holds_the_same_values_each_leaf_in_its_declared_sharding(config, tmp_path):
    write_folder(tmp_path, config, "CausalLM", "bfloat16", shards=2)
    spread, mesh = leaves_of(tmp_path, shape=(2, 2, 2)), make_mesh(MeshConfig(2, 2, 2))
    assert_same(spread, leaves_of(tmp_path))
    with jax.set_mesh(mesh):
        letters = {tensor.path: tensor for tensor in tensors(set(spread), config)}
        for path, declared in leaf_paths(shapes_of(LanguageModel, config)):
            tensor = letters[path]
            spec = weight_spec(("" if tensor.layer is None else "L") + tensor.letters)
            assert spread[path].sharding.is_equivalent_to(
                NamedSharding(mesh, spec), spread[path].ndim
            )
            assert declared.sharding.spec == spread[path].sharding.spec, path
    up = spread[".trunk.blocks.mlp.up"]
    assert up.sharding.shard_shape(up.shape) == (3, 8, 12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_host_holds_one_layer_tensor_at_a_time(dtype, tmp_path, monkeypatch):
    write_folder(tmp_path, dtype=dtype, shards=2)
    read, alive, most = TensorFolder.read, {}, []

    def watched(self, name):
        most.append([other for other, ref in alive.items() if ref() is not None])
        x = read(self, name)
        alive[name] = weakref.ref(x)
        return x

    monkeypatch.setattr(TensorFolder, "read", watched)
    leaves_of(tmp_path)
    assert len(most) == len(alive) == 3 + 9 * TINY.num_layers
    # An unstacked leaf that is float32 already may stay where it was read: it is the leaf.
    leaves = {"model.embed_tokens.weight", NORM, "lm_head.weight"} if dtype == "float32" else set()
    assert all(set(held) <= leaves for held in most)


def test_by_layers_names_a_tensor_of_several_layers_once_in_their_order():
    names = ["model.layers.10.x", "model.layers.2.x", "model.layers.2.y", "lm_head.weight"]
    assert by_layers(names) == ["model.layers.[2, 10].x", "model.layers.[2].y", "lm_head.weight"]
    assert by_layers([]) == []


@pytest.mark.parametrize("kind", [RewardModel, LanguageModel])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_leaf_of_a_model_has_names_that_lead_back(kind, config):
    table = list(tensors(paths_of(kind, config), config))
    assert {tensor.path for tensor in table} == paths_of(kind, config)
    assert len({tensor.name for tensor in table}) == len(table)
    chance = np.random.default_rng(0)
    for tensor in table:
        theirs = chance.normal(size=tensor.shape(config))
        back = tensor.to_theirs(tensor.to_ours(theirs, config), config)
        np.testing.assert_array_equal(back, theirs, err_msg=tensor.name)
    assert table[0].name == "model.embed_tokens.weight"
    layers = [tensor.layer for tensor in table if tensor.layer is not None]
    assert layers == sorted(layers)


def test_our_layout_is_a_view_of_theirs():
    query = Tensor(QUERY, ".trunk.blocks.attention.query", 1, "(K Q H) D", "DKQH")
    theirs = np.zeros(query.shape(TINY), np.float32)
    assert theirs.shape == (24, 16)
    assert np.shares_memory(query.to_ours(theirs, TINY), theirs)


def test_a_leaf_without_a_name_is_a_defect():
    with pytest.raises(AssertionError, match="no name for"):
        list(tensors({".trunk.embedding", ".trunk.new"}, TINY))


def test_a_model_is_filled_by_all_its_leaves_and_no_others(tmp_path, mesh):
    write_folder(tmp_path, head="SequenceClassification")
    like, leaves = shapes_of(RewardModel, TINY), leaves_of(tmp_path, RewardModel)
    model = filled(like, leaves)
    assert model.head[...] is leaves[".head"]
    assert all(leaf is leaves[path] for path, leaf in leaf_paths(model))
    assert jax.tree.structure(model) == jax.tree.structure(like)
    with pytest.raises(AssertionError, match=r"leaves differ: \{'\.head'\}"):
        filled(like, {path: leaf for path, leaf in leaves.items() if path != ".head"})
    with pytest.raises(AssertionError, match="leaves differ"):
        filled(like, leaves | {".new": leaves[".head"]})


def test_what_a_purpose_has_no_use_for_is_left_out_and_printed_by_name(tmp_path, capsys):
    frequencies = {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)
        for layer in range(3)
    }
    arrays = write_folder(tmp_path, CONFIGS["untied"], **frequencies)
    got = leaves_of(tmp_path, RewardModel, may_lack={".head"})
    assert set(got) == paths_of(RewardModel, TINY) - {".head"}
    assert_same(got, expected_leaves(arrays, TINY, RewardModel))
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": left out ")[1].split(" (")[0] for line in told] == [
        "lm_head.weight",
        "model.layers.[0, 1, 2].self_attn.rotary_emb.inv_freq",
    ]
    assert all(line.startswith(f"rbs: {tmp_path}: ") for line in told)


def test_a_vocabulary_head_beside_tied_embeddings_is_left_out(tmp_path, capsys):
    config = CONFIGS["tied"]
    arrays = write_folder(tmp_path, config, **{"lm_head.weight": np.ones((300, 16), np.float32)})
    assert_same(leaves_of(tmp_path), expected_leaves(arrays, config, LanguageModel))
    assert "left out lm_head.weight (a vocabulary head" in capsys.readouterr().err


def test_a_language_model_leaves_out_a_reward_head_and_its_bias(tmp_path, capsys):
    write_folder(tmp_path, CONFIGS["tied"], "TokenClassification")
    assert ".head" not in leaves_of(tmp_path, LanguageModel)
    told = capsys.readouterr().err
    assert "left out score.weight (" in told
    assert "left out score.bias (" in told


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bias_of_a_token_classifier_is_the_offset(dtype, tmp_path, capsys):
    write_folder(tmp_path, head="TokenClassification", dtype=dtype)
    assert head_offset(tmp_path, read_config(tmp_path)) == 0.75
    assert ".head" in leaves_of(tmp_path, RewardModel)
    assert capsys.readouterr().err == ""  # kept, so nothing is said to be left out


def test_without_a_bias_the_offset_is_what_the_config_says(tmp_path):
    write_folder(tmp_path, head="SequenceClassification")
    assert head_offset(tmp_path, read_config(tmp_path)) == 0.0
    write_config(tmp_path, TINY, "SequenceClassification", rbs_jax_head_offset=2.5)
    assert head_offset(tmp_path, read_config(tmp_path)) == 2.5
    write_config(tmp_path, TINY, "TokenClassification")
    assert head_offset(tmp_path, read_config(tmp_path)) == 0.0


def test_a_bias_of_several_numbers_is_refused(tmp_path):
    write_folder(tmp_path, head="TokenClassification", **{"score.bias": np.ones(2, np.float32)})
    with pytest.raises(UserError, match=r"score\.bias has shape \(2,\), not \(1,\)"):
        head_offset(tmp_path, read_config(tmp_path))


def test_a_bias_where_the_architecture_has_none_is_not_dropped_from_the_rewards(tmp_path):
    write_folder(tmp_path, head="SequenceClassification", **{"score.bias": np.ones(1, np.float32)})
    assert "not of this model: score.bias" in refusal(tmp_path, RewardModel)


def test_all_that_is_wrong_with_the_tensors_is_said_at_once_and_nothing_is_read(
    tmp_path, monkeypatch, capsys
):
    arrays = random_tensors(TINY)
    del arrays["model.layers.0.mlp.up_proj.weight"], arrays["model.layers.2.mlp.up_proj.weight"]
    arrays[QUERY] = arrays[QUERY].T.copy()
    arrays[NORM] = np.ones(16, np.int8)
    arrays["model.layers.1.mlp.gate_proj.weight_scale"] = np.ones(1, np.float32)
    arrays["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)
    write_config(tmp_path, TINY)
    write_tensors(tmp_path, arrays)
    monkeypatch.setattr(TensorFolder, "read", lambda *_: pytest.fail("a tensor was read"))
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: tensors ")
    for said in (
        "missing: model.layers.[0, 2].mlp.up_proj.weight",
        "not of this model: model.layers.[1].mlp.gate_proj.weight_scale",
        "of shape (16, 24), not (24, 16): model.layers.[1].self_attn.q_proj.weight",
        "of dtype I8, not F64, F32, BF16, F16: model.norm.weight",
    ):
        assert said in message
    assert "inv_freq" not in message
    assert capsys.readouterr().err == ""


def test_a_tensor_of_one_layer_too_many_is_refused(tmp_path):
    write_folder(tmp_path)
    write_config(tmp_path, dataclasses.replace(TINY, num_layers=2))
    message = refusal(tmp_path)
    assert "not of this model: model.layers.[2].input_layernorm.weight" in message
    assert "missing" not in message


def test_only_a_head_that_may_be_fresh_may_be_missing(tmp_path):
    write_folder(tmp_path, CONFIGS["tied"])
    assert "missing: score.weight" in refusal(tmp_path, RewardModel)
    assert ".head" not in leaves_of(tmp_path, RewardModel, may_lack={".head"})
    write_folder(tmp_path, head="SequenceClassification")
    assert ".head" in leaves_of(tmp_path, RewardModel, may_lack={".head"})


def test_missing_shards_and_one_cut_short_are_named_together(tmp_path):
    write_folder(tmp_path, shards=4)
    first, second, third, fourth = sorted(tmp_path.glob("*.safetensors"))
    first.unlink()
    third.unlink()
    second.write_bytes(second.read_bytes()[:-7])
    message = refusal(tmp_path)
    assert f"{first.name} is missing; {third.name} is missing; {second.name} cannot" in message
    assert "it may be cut short" in message
    assert fourth.name not in message
    assert "lacks" not in message


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_cut_short_anywhere_is_refused(kept, tmp_path):
    write_folder(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "model.safetensors cannot be read" in refusal(tmp_path)


def test_a_shard_that_lacks_what_the_index_promises_is_named(tmp_path):
    write_folder(tmp_path, shards=3)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    files = sorted(set(weight_map.values()))
    moved = next(name for name, file in weight_map.items() if file == files[0])
    write_index(tmp_path, weight_map | {moved: files[2], "model.new": files[1]})
    message = refusal(tmp_path)
    assert f"{files[2]} lacks {moved}" in message
    assert f"{files[1]} lacks model.new" in message


def test_the_index_says_which_of_two_copies_counts(tmp_path):
    arrays = write_folder(tmp_path)
    other = {"lm_head.weight": arrays["lm_head.weight"], NORM: np.full(16, 9.0, np.float32)}
    save_file(other, tmp_path / "z.safetensors")
    weight_map = dict.fromkeys(arrays, "model.safetensors") | {"lm_head.weight": "z.safetensors"}
    write_index(tmp_path, weight_map)
    assert_same(leaves_of(tmp_path), expected_leaves(arrays, TINY, LanguageModel))
    write_index(tmp_path, weight_map | {NORM: "z.safetensors"})
    assert_same(leaves_of(tmp_path), expected_leaves(arrays | other, TINY, LanguageModel))


def test_a_tensor_of_a_shard_counts_though_the_index_is_silent(tmp_path):
    arrays = write_folder(tmp_path, **{"model.strange": np.ones(2, np.float32)})
    del arrays["model.strange"]
    write_index(tmp_path, dict.fromkeys(arrays, "model.safetensors"))
    assert "not of this model: model.strange" in refusal(tmp_path)


@pytest.mark.parametrize("outside", ["../other/model.safetensors", "/etc/passwd", ""])
def test_an_index_that_names_a_file_elsewhere_is_refused(outside, tmp_path):
    write_folder(tmp_path / "other")
    write_config(tmp_path / "here", TINY)
    write_index(tmp_path / "here", {NORM: outside})
    assert "index.json: names a file outside its folder" in refusal(tmp_path / "here")


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_a_file_that_is_no_index_is_refused(content, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert "not an index of safetensors" in refusal(tmp_path)


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_a_pickle_is_named_and_never_opened(name, tmp_path):
    write_config(tmp_path, TINY)
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    message = refusal(tmp_path)
    assert re.search(rf"no model\.safetensors .*{re.escape(name)} is a pickle and never", message)
    assert "save it as safetensors" in message
    assert not (tmp_path / "sprung").exists()


def test_a_folder_without_any_weights_says_what_is_looked_for(tmp_path):
    write_config(tmp_path, TINY)
    message = refusal(tmp_path)
    assert "no model.safetensors or model.safetensors.index.json" in message
    assert "pickle" not in message
