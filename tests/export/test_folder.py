import itertools
import json
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from rbs_jax.cli import main
from rbs_jax.convert import write
from rbs_jax.convert.weights import leaf_paths
from rbs_jax.data.tokens import END_OF_DOCUMENT, Tokens, load_tokens
from rbs_jax.errors import UserError
from rbs_jax.export import folder as module
from rbs_jax.export.folder import export
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.models import find_model, load_model
from tests.export.conftest import FAMILIES

PROMPTS = ["abc def ", "", [{"role": "user", "content": "ghi"}]]
RESPONSES = [["one", " two words"], ["alone"], ["x", "y z"]]


def loaded(name, shape=(1, 1, 1)):
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        return load_model(find_model(str(name)), mesh), mesh


def scores(name):
    model, mesh = loaded(name)
    with jax.set_mesh(mesh):
        return [s for own in Scorer(model, mesh).score(PROMPTS, RESPONSES) for s in own]


def assert_same_leaves(got, expected):
    got, expected = dict(leaf_paths(jax.device_get(got))), dict(leaf_paths(expected))
    assert got.keys() == expected.keys()
    for path, leaf in got.items():
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_exported_comes_back_bitwise_with_the_same_scores(family, run, tmp_path):
    folder, model = run(family, form="human_assistant")
    export(str(folder), tmp_path / "hf", "hf")
    found = find_model(str(tmp_path / "hf"))
    assert found.experiment.model == find_model(str(folder)).experiment.model
    assert_same_leaves(loaded(tmp_path / "hf")[0].model, model)
    assert scores(tmp_path / "hf") == scores(folder)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == [f"{family}ForSequenceClassification"]


def test_a_language_model_comes_back_bitwise(run, tmp_path):
    folder, model = run("Qwen2", loss="causal_lm")
    export(str(folder), tmp_path / "hf", "hf")
    assert_same_leaves(loaded(tmp_path / "hf")[0].model, model)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert "num_labels" not in config


def test_the_config_says_what_servers_read(run, tmp_path):
    export(str(run()[0]), tmp_path / "hf", "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert (config["num_labels"], config["id2label"]) == (1, {"0": "LABEL_0"})
    assert config["torch_dtype"] == "float32"
    tokens = load_tokens(tmp_path / "hf")
    assert config["eos_token_id"] == tokens.end_id
    assert config["pad_token_id"] == tokens.id_of("pad_token") != tokens.end_id
    assert load_file(tmp_path / "hf" / "model.safetensors")["score.weight"].shape == (1, 24)


@pytest.mark.parametrize("form", ["plain", "chat", "human_assistant"])
def test_the_template_that_training_saw_is_the_folders_own(form, run, tmp_path):
    folder, _ = run(form=form)
    export(str(folder), tmp_path / "hf", "hf")
    assert (tmp_path / "hf" / "chat_template.jinja").is_file()
    assert find_model(str(tmp_path / "hf")).experiment.template.form == "chat"
    assert scores(tmp_path / "hf") == scores(folder)


def test_many_tensors_go_into_several_files_with_an_index(run, tmp_path, monkeypatch):
    folder, model = run("Qwen3")
    export(str(folder), tmp_path / "one", "hf")
    monkeypatch.setattr(write, "SHARD_BYTES", 20_000)
    export(str(folder), tmp_path / "many", "hf")
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    assert files == sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    one = load_file(tmp_path / "one" / "model.safetensors")
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(load_file(tmp_path / "many" / file)[name], one[name])
    assert one.keys() == index["weight_map"].keys()
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in one.values())
    sizes = [sum(x.nbytes for x in load_file(tmp_path / "many" / f).values()) for f in files]
    assert all(a + b > 20_000 for a, b in itertools.pairwise(sizes))
    assert_same_leaves(loaded(tmp_path / "many", (2, 2, 2))[0].model, model)


def test_another_dtype_rounds_every_tensor(run, tmp_path):
    folder, _ = run()
    export(str(folder), tmp_path / "wide", "hf")
    export(str(folder), tmp_path / "half", "hf", "bfloat16")
    half = load_file(tmp_path / "half" / "model.safetensors")
    for name, x in load_file(tmp_path / "wide" / "model.safetensors").items():
        np.testing.assert_array_equal(half[name], x.astype(ml_dtypes.bfloat16), err_msg=name)


def test_what_a_dtype_cannot_hold_is_refused_and_leaves_nothing(run, tmp_path, capsys):
    folder, _ = run()
    found = find_model(str(folder))
    model, mesh = loaded(folder)
    model.model.head[...] = model.model.head[...] * 1e6
    config = found.experiment.model
    with jax.set_mesh(mesh), pytest.raises(UserError, match=r"score\.weight: .* float16 cannot"):
        write.write_weights(model.model, config, config.vocab_size, tmp_path, "float16")


def test_without_a_padding_token_one_is_added_behind_the_vocabulary(run, tmp_path, tokens):
    folder, model = run(vocab_size=300)
    end_alone = Tokens(tokens._tokenizer, END_OF_DOCUMENT)
    renamed = end_alone._tokenizer.to_str().replace("<|pad|>", "<|odd|>")
    Tokens(type(tokens._tokenizer).from_str(renamed), END_OF_DOCUMENT).save(folder)
    export(str(folder), tmp_path / "hf", "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["pad_token_id"], config["vocab_size"]) == (300, 301)
    table = load_file(tmp_path / "hf" / "model.safetensors")["model.embed_tokens.weight"]
    np.testing.assert_array_equal(table[:300], model.trunk.embedding[...])
    assert (table[300:] == 0).all()
    assert scores(tmp_path / "hf") == scores(folder)


def test_an_offset_is_kept_though_the_architecture_has_none(run, tmp_path):
    folder, _ = run(head_offset=0.5)
    export(str(folder), tmp_path / "hf", "hf")
    assert scores(tmp_path / "hf") == scores(folder)
    assert "bias of 0.5" in (tmp_path / "hf" / "README.md").read_text()
    assert "score.bias" not in load_file(tmp_path / "hf" / "model.safetensors")


def test_a_model_of_no_family_is_refused_and_leaves_nothing(run, tmp_path):
    folder, _ = run("Qwen2", qk_norm=True)
    with pytest.raises(UserError, match="no Hugging Face architecture has both"):
        export(str(folder), tmp_path / "new" / "hf", "hf")
    assert not list((tmp_path / "new").iterdir())


def test_an_interrupted_export_leaves_no_folder(run, tmp_path, monkeypatch):
    folder, _ = run()
    monkeypatch.setattr(module, "model_card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(str(folder), tmp_path / "new" / "hf", "hf")
    assert not list((tmp_path / "new").iterdir())


def test_something_at_out_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    assert main(["export", str(tmp_path / "no-model"), str(tmp_path / "mine")]) == 2
    assert "mine: already exists" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "precious"


def test_the_card_says_where_it_comes_from_and_how_it_did(run, tmp_path):
    folder, _ = run()
    figure = {"pair_accuracy": 0.75, "ci95": [0.7, 0.8], "n": 123}
    figures = dict.fromkeys(("in_batch", "same_document", "balanced"), figure)
    result = {"checkpoint": f"{folder}@7", "test": figures, "valid": None, "untrained": None}
    (folder / "result.json").write_text(json.dumps(result | {"controls": None}))
    export(str(folder), tmp_path / "hf", "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    for said in ("abc123", "reward mean (held out): -0.1250", "reward std (held out): 0.5000"):
        assert said in card
    assert "test, balanced: pair accuracy 0.750, 95% [0.7, 0.8], n 123" in card
    assert '"vocab_size": 310' in card
    export(str(tmp_path / "hf"), tmp_path / "again", "hf")
    assert "n 123" in (tmp_path / "again" / "README.md").read_text()
    result["checkpoint"] = f"{folder}@6"
    (folder / "result.json").write_text(json.dumps(result))
    export(str(folder), tmp_path / "other", "hf")
    assert "n 123" not in (tmp_path / "other" / "README.md").read_text()


PLAIN_ORBAX = """
import sys
sys.modules["rbs_jax"] = None  # an import of it fails
import itertools
import json
import numpy as np
import orbax.checkpoint as ocp
folder = sys.argv[1]
params = ocp.StandardCheckpointer().restore(folder + "/params")
config = json.load(open(folder + "/config.json"))
flat = {}
def walk(tree, path):
    for name, x in tree.items():
        walk(x, f"{path}.{name}") if isinstance(x, dict) else flat.update({f"{path}.{name}": x})
walk(params, "")
for path, x in flat.items():
    assert len(config["axes"][path[1:]]) == x.ndim, path
np.savez(folder + "/params.npz", **{path[1:]: np.asarray(x) for path, x in flat.items()})
print(config["model"]["width"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_plain_orbax_restores_the_parameters_without_this_package(
    shape, run, tmp_path, monkeypatch
):
    folder, model = run("Qwen3")
    monkeypatch.setattr(module, "mesh_for_scoring", lambda _: make_mesh(MeshConfig(*shape)))
    export(str(folder), tmp_path / "orbax", "orbax")
    program = [sys.executable, "-c", PLAIN_ORBAX, str(tmp_path / "orbax")]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "24", done.stderr
    restored = np.load(tmp_path / "orbax" / "params.npz")
    expected = {path.removeprefix("."): x for path, x in leaf_paths(model)}
    assert set(restored.files) == set(expected)
    for path, x in expected.items():
        np.testing.assert_array_equal(restored[path], x, err_msg=path)


def test_what_transformers_or_the_format_refuses_is_refused_here(run, tmp_path):
    folder, _ = run("Llama", width=20)
    with pytest.raises(UserError, match=r"model\.width 20 is no multiple of model\.num_heads 6"):
        export(str(folder), tmp_path / "hf", "hf")
    with pytest.raises(UserError, match="orbax keeps the float32 parameters"):
        export(str(folder), tmp_path / "orbax", "orbax", "bfloat16")
