import builtins
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rbs_jax.cli import main
from rbs_jax.errors import UserError
from rbs_jax.export.check import check, rank_agreement
from rbs_jax.export.folder import export


@pytest.mark.torch
@pytest.mark.parametrize(
    ("family", "form"),
    [
        *(("Llama", form) for form in ("plain", "chat", "human_assistant")),
        *(("Qwen2", "plain"), ("Qwen3", "human_assistant"), ("Mistral", "chat")),
    ],
)
def test_scores_and_ids_are_those_of_transformers(family, form, run, tmp_path):
    folder, _ = run(family, form)
    export(str(folder), tmp_path / "hf", "hf")
    result = check(str(folder), tmp_path / "hf")
    assert result["within"], json.dumps(result)
    assert result["tolerance"] == 1e-4
    assert result["largest_difference"] < 2e-5
    assert result["mean_absolute_score"] > 0.1
    assert result["rank_agreement"] == 1.0
    assert result["texts"] >= 12


@pytest.mark.torch
def test_an_unclosed_response_is_scored_alike(run, tmp_path):
    folder, _ = run(form="chat", close=False)
    export(str(folder), tmp_path / "hf", "hf")
    assert check(str(tmp_path / "hf"), tmp_path / "hf")["within"]
    assert "append the response as it is" in (tmp_path / "hf" / "README.md").read_text()


@pytest.mark.torch
def test_an_offset_is_added_on_their_side(run, tmp_path):
    folder, _ = run(head_offset=3.0)
    export(str(folder), tmp_path / "hf", "hf")
    assert check(str(folder), tmp_path / "hf")["within"]


@pytest.mark.torch
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_models_likelihoods_are_those_of_transformers(tied, run, tmp_path):
    folder, _ = run("Llama", loss="causal_lm", tied_embeddings=tied)
    export(str(folder), tmp_path / "hf", "hf")
    result = check(str(folder), tmp_path / "hf")
    assert result["within"], json.dumps(result)
    assert result["mean_absolute_score"] > 1


@pytest.mark.torch
def test_rounded_tensors_have_a_tolerance_of_their_own(run, tmp_path, capsys):
    folder, _ = run()
    export(str(folder), tmp_path / "hf", "hf", "bfloat16")
    result = check(str(folder), tmp_path / "hf")
    assert 1e-4 < result["largest_difference"] < 0.1 == result["tolerance"]
    assert main(["check", str(folder), str(tmp_path / "hf"), "--tolerance", "1e-4"]) == 1
    said = capsys.readouterr().err
    assert "tolerance 0.0001" in said
    assert "other ids" not in said


@pytest.mark.torch
def test_a_changed_head_ends_with_1_and_a_changed_template_too(run, tmp_path, capsys):
    folder, _ = run(form="chat")
    assert main(["export", str(folder), str(tmp_path / "hf"), "--check"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["within"] is True
    file = tmp_path / "hf" / "model.safetensors"
    arrays = load_file(file)
    save_file(arrays | {"score.weight": arrays["score.weight"] * 1.01}, file, {"format": "pt"})
    assert main(["check", str(folder), str(tmp_path / "hf")]) == 1
    save_file(arrays, file, {"format": "pt"})
    template = tmp_path / "hf" / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|", "<| "))
    assert main(["check", str(folder), str(tmp_path / "hf")]) == 1
    assert "transformers makes other ids" in capsys.readouterr().err


@pytest.mark.torch
def test_a_folder_that_transformers_cannot_load_is_named(run, tmp_path):
    folder, _ = run()
    export(str(folder), tmp_path / "hf", "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="hf: transformers fails on it: OSError"):
        check(str(folder), tmp_path / "hf")


def test_without_torch_it_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def no_torch(name, *args, **kwargs):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    assert main(["check", "any", "folder"]) == 2
    assert "torch is not installed" in capsys.readouterr().err


def test_rank_agreement_by_hand():
    ours = np.array([1.0, 2.0, 3.0])
    assert rank_agreement(ours, ours * 2) == 1.0
    assert rank_agreement(ours, -ours) == 0.0
    assert rank_agreement(ours, np.array([1.0, 3.0, 2.0])) == pytest.approx(2 / 3)
    assert rank_agreement(ours, np.array([1.0, 1.0, 2.0])) == pytest.approx(2 / 3)


def test_a_check_of_an_orbax_export_is_refused(run, tmp_path, capsys):
    folder, _ = run()
    args = ["export", str(folder), str(tmp_path / "o"), "--format", "orbax", "--check"]
    assert main(args) == 2
    assert "give --format hf" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.torch
def test_a_language_model_is_not_checked_against_a_reward_model(run, tmp_path):
    folder, _ = run()
    export(str(folder), tmp_path / "hf", "hf")
    config = tmp_path / "hf" / "config.json"
    config.write_text(config.read_text().replace("SequenceClassification", "CausalLM"))
    with pytest.raises(UserError, match="one is a language model, one a reward model"):
        check(str(folder), tmp_path / "hf")
