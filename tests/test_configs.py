import ast
import dataclasses
import math
import shlex
from pathlib import Path

import jax
import pyarrow as pa
import pytest
from pyarrow import parquet

from rbs_jax.cli import main, parse
from rbs_jax.config_file import load_value
from rbs_jax.data.manifest import read_manifest
from rbs_jax.data.recipe import Recipe
from rbs_jax.experiment import Experiment, differences, load_experiment, to_json
from rbs_jax.model import backbones
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py"))
RECIPES = sorted(path.stem for path in (FOLDER / "data").glob("*.py"))
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


def docstring(name):
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))


def commands(name, monkeypatch):
    """What the `rbs prepare` lines of a docstring mean."""
    monkeypatch.chdir(FOLDER.parent)
    lines = docstring(name).replace("\\\n", "").split("\n")
    return [parse(shlex.split(line)[1:]) for line in lines if line.startswith("rbs prepare")]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_docstring_names_its_commands(name, monkeypatch):
    said = docstring(name)
    assert f"rbs train configs/{name}.py" in said
    init = experiment(name).model.init
    if init is not None and init.startswith("backbones/"):
        assert f"--local-dir {init}\n" in said
        prepared = commands(name, monkeypatch)
        data = experiment(name).data
        for corpus in filter(None, (*data.train, data.valid, data.test)):
            assert corpus in [command.out for command in prepared]
        assert len({command.recipe.sources for command in prepared}) == len(prepared)
        for recipe in (command.recipe for command in prepared):
            assert (recipe.tokenizer, recipe.block_length) == (init, 1536)


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


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_s_docstring_prepares_three_corpora_of_different_files(name, monkeypatch):
    recipe = load_value(FOLDER / "data" / f"{name}.py", "recipe", Recipe)
    first, *rest = commands(f"data/{name}", monkeypatch)
    assert first.recipe == recipe
    outs = [command.out for command in (first, *rest)]
    assert [out.rpartition("/")[2] for out in outs] == ["train", "valid", "test"]
    assert len({command.recipe.sources for command in (first, *rest)}) == 3
    if name != "folder":
        assert f"--local-dir {recipe.tokenizer}\n" in docstring(f"data/{name}")


@pytest.mark.parametrize("name", RECIPES)
def test_the_help_on_a_recipe_shows_its_values(name, capsys):
    recipe = load_value(FOLDER / "data" / f"{name}.py", "recipe", Recipe)
    with pytest.raises(SystemExit) as stop:
        main(["prepare", str(FOLDER / "data" / f"{name}.py"), "--help"])
    assert not stop.value.code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for value in (*recipe.sources, recipe.tokenizer, recipe.duplicates, recipe.block_length):
        assert f"(default: {shlex.quote(str(value))})" in said


# The columns that the publishers' cards name, and their types.
OPENWEBMATH = {name: pa.string() for name in ("url", "text", "date", "metadata")}
INFIWEBMATH = {
    "url": pa.string(),
    "metadata": pa.string(),
    "score": pa.float64(),
    "int_score": pa.int64(),
    "token_count": pa.int64(),
    "char_count": pa.int64(),
    "text": pa.string(),
}
FINEMATH = {
    "url": pa.string(),
    "fetch_time": pa.int64(),
    "content_mime_type": pa.string(),
    "warc_filename": pa.string(),
    "warc_record_offset": pa.int32(),
    "warc_record_length": pa.int32(),
    "text": pa.string(),
    "token_count": pa.int32(),
    "char_count": pa.int32(),
    "metadata": pa.string(),
    "score": pa.float64(),
    "int_score": pa.int64(),
    "crawl": pa.string(),
    "snapshot_type": pa.string(),
    "language": pa.string(),
    "language_score": pa.float64(),
}
ASKED = "Let f be a function; why is the sum of its even and odd parts f itself, and not another?"
ROWS = [
    {"url": "https://math.stackexchange.com/questions/1", "score": 3.6, "int_score": 4},
    {"url": "https://math.stackexchange.com/questions/2", "score": 3.4, "int_score": 3},
    {"url": "https://example.org/stack/exchange", "score": 5.0, "int_score": 5},
    {"url": "https://example.org/stackexchange-copy", "score": 4.4, "int_score": 4},
]
TEXTS = [f"{ASKED} So asks number one.", "Two is prime.", "Three is odd.", f"{ASKED} So asks, too."]


@pytest.mark.parametrize(
    ("name", "columns", "left_out"),
    [
        ("finemath_4plus", FINEMATH, {"score": 1, "near_duplicate": 1}),
        ("infiwebmath_4plus", INFIWEBMATH, {"score": 1, "near_duplicate": 1}),
        ("openwebmath", OPENWEBMATH, {"near_duplicate": 1}),
        ("paper_stackexchange", FINEMATH, {"url": 1}),
        ("folder", {"text": pa.string()}, {"near_duplicate": 1}),
    ],
)
def test_a_recipe_takes_what_it_says_of_a_file_as_published(
    name, columns, left_out, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = [row | {"text": text} for row, text in zip(ROWS, TEXTS, strict=True)]
    kept = [{column: row.get(column) for column in columns} for row in rows]
    parquet.write_table(pa.Table.from_pylist(kept, pa.schema(columns)), "made.parquet")
    flags = ["--sources", "made.parquet", "--tokenizer", "train:260", "--block-length", "8"]
    recipe = str(FOLDER / "data" / f"{name}.py")
    assert main(["prepare", recipe, *flags, "--strict", "--out", "corpus"]) == 0
    made = read_manifest(Path("corpus"))
    assert (made.left_out, made.document_count) == (left_out, 4 - sum(left_out.values()))
    if "near_duplicate" in left_out:
        listed = Path("corpus/dropped/near_duplicate.jsonl").read_text()
        assert '"row": 3' in listed
        assert (ROWS[3]["url"] in listed) == (name != "folder")
