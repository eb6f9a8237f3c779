import ast
import dataclasses
import math
from pathlib import Path

import jax
import pytest

from rbs_jax.experiment import Experiment, differences, load_experiment, to_json
from rbs_jax.model import backbones
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py"))
PAPER = [name for name in CONFIGS if name.startswith("paper_")]
PARAMETERS = {
    "LLAMA32_1B": 1_235_814_400,
    "LLAMA32_3B": 3_212_749_824,
    "LLAMA31_8B": 8_030_261_248,
    "QWEN25_3B": 3_085_938_688,
    "QWEN25_7B": 7_615_616_512,
    "QWEN3_0_6B": 596_049_920,
}


def experiment(name):
    return load_experiment(FOLDER / f"{name}.py")


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_backbone_has_as_many_parameters_as_published(name, mesh):
    model = shapes_of(LanguageModel, getattr(backbones, name))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model)) == PARAMETERS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_loads_and_its_sizes_fit_the_mesh_and_the_text(name):
    loaded = experiment(name)
    assert isinstance(loaded, Experiment)
    loaded.check_model()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_docstring_names_its_commands(name):
    said = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    assert f"rbs train configs/{name}.py" in said
    init = experiment(name).model.init
    if init is not None and init.startswith("backbones/"):
        assert f"--local-dir {init}\n" in said
        commands = said.replace("\\\n", "").split("\n")
        prepared = [line for line in commands if line.startswith("rbs prepare")]
        data = experiment(name).data
        for corpus in filter(None, (*data.train, data.valid, data.test)):
            assert any(f"--out {corpus} " in line for line in prepared)
        assert all(f"--tokenizer {init} --block-length 1536" in line for line in prepared)


@pytest.mark.parametrize("name", [name.lower() for name in PARAMETERS])
def test_a_backbone_of_ours_starts_from_the_folder_of_its_name(name):
    sizes = getattr(backbones, name.upper())
    assert experiment(name).model == dataclasses.replace(sizes, init=f"backbones/{name}")


@pytest.mark.parametrize("name", [name.lower() for name in PARAMETERS])
def test_our_recipe_differs_between_backbones_in_the_model_alone(name):
    found = differences(to_json(experiment("llama32_1b")), to_json(experiment(name)))
    assert all(line.startswith("model.") for line in found)


def test_the_paper_has_four_backbones():
    assert [name.removeprefix("paper_") for name in PAPER] == [
        "llama32_1b",
        "llama32_3b",
        "qwen25_3b",
        "qwen25_7b",
    ]


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_recipe_differs_between_backbones_in_model_and_template_alone(name):
    loaded = experiment(name)
    assert loaded.model == experiment(name.removeprefix("paper_")).model
    found = differences(to_json(experiment("paper_llama32_3b")), to_json(loaded))
    template = {line for line in found if not line.startswith("model.")}
    instructs = {"template.form: plain -> chat", "template.close: True -> False"}
    assert template == (instructs if "qwen" in name else set())


def test_the_paper_s_recipe_is_as_published():
    paper = experiment("paper_llama32_3b")
    grid, split, optim = paper.grid, paper.split, paper.optim
    assert (split.prefix_length, split.suffix_length, split.breakpoint) == (512, 1024, "fixed")
    assert (grid.prefixes, grid.grids_per_step, grid.order) == (32, 1, "corpus")
    assert (grid.same_document, grid.negatives_per_prefix) == ("keep", None)
    assert (optim.learning_rate, optim.schedule, optim.clip_norm) == (1e-6, "constant", 1.0)
    assert (optim.warmup_steps, optim.warmup_counts) == (10, "steps")
    assert (optim.weight_decay, optim.decay, optim.freeze) == (0.01, "all", "nothing")
    assert (optim.beta1, optim.beta2, optim.eps) == (0.9, 0.999, 1e-8)
    assert dataclasses.astuple(paper.objective) == ("bradley_terry", 0.0, 0.0, 0.01, "square")


@pytest.mark.parametrize("name", ["llama32_1b", "paper_llama32_3b"])
def test_both_recipes_read_the_published_number_of_tokens(name):
    loaded = experiment(name)
    blocks = loaded.train.steps * loaded.grid.prefixes * loaded.grid.grids_per_step
    assert blocks * loaded.split.tokens_used == pytest.approx(10.7e6, abs=0.05e6)


def test_an_update_of_the_paper_is_a_prefix_and_one_of_ours_a_grid():
    paper, ours = experiment("paper_llama32_3b"), experiment("llama32_1b")
    assert paper.train.steps * paper.updates_per_step == 218 * 32
    assert ours.train.steps * ours.updates_per_step == 218
