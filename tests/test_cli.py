import os
import subprocess
import sys

import jax
import optax
import pytest

from rbs_jax.cli import COMMANDS, main, parse
from rbs_jax.data.manifest import read_manifest
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.tokens import train_tokens
from rbs_jax.errors import Preempted
from rbs_jax.experiment import load_experiment
from rbs_jax.model.kinds import fresh
from rbs_jax.sharding import make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import init_state

TEXT = '{"text": "some words, and some words more"}\n' * 3
TINY = """
from rbs_jax.experiment import Experiment, GridConfig, SplitConfig
from rbs_jax.model.config import TransformerConfig

experiment = Experiment(
    split=SplitConfig(2, 2),
    grid=GridConfig(prefixes=2),
    model=TransformerConfig(
        vocab_size=300, width=8, mlp_width=8, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=4
    ),
)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test runs in a folder of its own, with a text and a config without fault."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jsonl").write_text(TEXT)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def mistake(capsys):
    """Runs a command line that must be refused, and gives the one line it says on stderr."""

    def refused(*args):
        assert main(args) == 2
        said = capsys.readouterr().err
        assert said.startswith("rbs: ")
        assert said.count("\n") == 1, said
        assert said.endswith("\n")
        assert "---" not in said, "a frame's rule"
        return said

    return refused


def prepare(out, *, text="good.jsonl", tokenizer="train:300", block_length=4):
    args = ["--tokenizer", tokenizer, "--out", out, "--block-length", str(block_length)]
    return "prepare", text, *args


@pytest.fixture
def corpus(capsys):
    assert main(prepare("corpus")) == 0
    assert capsys.readouterr().out.startswith("corpus: 3 documents (left out: none)")
    return "corpus"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that has only begun: one checkpoint, nothing trained."""
    out = tmp_path_factory.mktemp("run")
    (out / "tiny.py").write_text(TINY)
    experiment = load_experiment(out / "tiny.py")
    with jax.set_mesh(make_mesh(experiment.mesh)):
        model = fresh(experiment.kind, 0, experiment.model)
        state = init_state(model, optax.sgd(0.1, 0.9))
        with Checkpoints(out, keep=1) as checkpoints:
            checkpoints.save(7, state, {"next_step": 7}, experiment, {})
    train_tokens([TEXT], 300).save(out)
    return str(out)


# What rbs says of itself


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(capsys, args):
    assert main(args) == 0
    said = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"{name} " in said
        assert command.__doc__ in said


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("quickstart", ["--out", "default runs/quickstart", "--fast", "(default: False)"]),
        (
            "prepare",
            ["--tokenizer", "to be given: a path", "[tokens]", "(default: 128)", "(default: text)"],
        ),
        ("train", ["--train.steps", "(default: 300)", "--split.prefix-length", "[tokens]"]),
        (
            "score",
            ["--out", "(required)", "FOLDER@STEP", '{"prompt": str, "responses": [str, ...]'],
        ),
        ("plan", ["--topology", "2*v5e:4x4", "(default: 3)", "--train.steps", "--out"]),
        ("eval", ["--data", "(required)", "FOLDER@STEP", "heldout", "rewardbench2"]),
        (
            "bon",
            ["--checker", "gsm8k", "--sample", "(default: 32)", "[tokens]", "[seconds]", "--close"],
        ),
        ("combine", ["--rule", "knockout", "--whiten", "(default: False)", "(required)"]),
        ("report", ["--out", "(required)", "rbs eval, rbs bon, rbs combine and rbs train wrote"]),
        ("inspect", ["--pairs", "(default: 3)", "--split.prefix-length", "--grid.prefixes"]),
    ],
)
def test_help_gives_arguments_units_and_defaults(capsys, command, pieces):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert not stop.value.code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert said.startswith(f"usage: rbs {command}")
    for piece in pieces:
        assert piece in said


def test_help_on_a_config_shows_its_values(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "tiny.py", "--help"])
    assert not stop.value.code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Rows of the embedding table; at least the tokenizer's ids. (default: 300)" in said


# Arguments


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("prepair", "perhaps prepare"),
        (
            "xyz",
            "there are quickstart, prepare, train, plan, score, eval, bon, combine, report, "
            "export, check, inspect",
        ),
    ],
)
def test_an_unknown_command_is_named_with_a_suggestion(mistake, command, hint):
    assert mistake(command) == f"rbs: no command '{command}'; {hint}\n"


@pytest.mark.parametrize(
    ("args", "missing"),
    [
        (["prepare", "good.jsonl", "--out", "corpus"], "--tokenizer"),
        (["prepare", "good.jsonl", "--tokenizer", "train:300"], "folder with --out"),
        (["prepare", "good.jsonl", "--tokenizer", "train:300", "--out", ""], "folder with --out"),
        (["prepare", "--tokenizer", "train:300", "--out", "corpus"], "SOURCE"),
        (["train"], "PATH"),
        (["plan", "tiny.py"], "--topology"),
        (["score", "run", "good.jsonl"], "--out"),
        (["eval", "run", "heldout", "--out", "eval"], "--data"),
        (["inspect"], "STR"),
        (["eval", "run", "pairs"], "--data STR --out STR; see"),
        (["combine", "a", "b", "--out", "c"], ",round_robin,knockout}; see"),
    ],
)
def test_a_missing_argument_is_named(mistake, args, missing):
    assert missing in mistake(*args)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "tiny.py", "--optim.learning-rat", "3"], "--optim.learning-rate"),
        ([*prepare("corpus"), "--text-feld", "body"], "--text-field"),
    ],
)
def test_an_unknown_field_is_named_with_a_suggestion(mistake, args, said):
    line = mistake(*args)
    assert f"Unrecognized options: {args[-2]}, {args[-1]}" in line
    assert f"perhaps you meant {said};" in line


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_program_says_one_line_on_any_terminal(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "rbs_jax", "train", "tiny.py", "--optim.learning-rat", "3"],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "rbs: Unrecognized options: --optim.learning-rat, 3; "
        "perhaps you meant --optim.learning-rate; see rbs train --help\n"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "tiny.py", "--train.steps", "many"], "--train.steps"),
        (["train", "tiny.py", "--model.dtype", "float8"], "--model.dtype"),
        (["train", "tiny.py", "--train.steps", "0"], "train.steps is 0"),
        (["train", "tiny.py", "--grid.prefixes", "1"], "grid.prefixes is 1"),
        (["train", "tiny.py", "--mesh.fsdp", "3"], "mesh.fsdp 3 does not divide grid.prefixes 2"),
        (["train", "tiny.py", "--split.prefix-length", "9999"], "exceed model.max_positions 2048"),
        (["plan", "tiny.py", "--topology", "v9:4x4"], "no chip v9 is known here"),
        (["plan", "tiny.py", "--topology", "v5e:4x4", "--meshes", "0"], "--meshes is 0"),
        (["plan", "tiny.py", "--topology", "v5e:4x4", "--utilisation", "40"], "is 40.0"),
        (["plan", "tiny.py", "--topology", "v5e:4x4", "--grid.prefixes", "1"], "grid.prefixes is"),
        (["plan", "tiny.txt", "--topology", "v5e:4x4"], "tiny.txt: a config is a .py file"),
        (["prepare", "good.jsonl", "--out", "corpus", "--workers", "0"], "--workers is 0"),
        (
            ["prepare", "good.jsonl", "--out", "corpus", "--shuffle-seed", "-1"],
            "shuffle_seed is -1",
        ),
        (["eval", "run", "hellaswag", "--data", "corpus", "--out", "eval"], "'hellaswag'"),
    ],
)
def test_a_value_of_the_wrong_kind_or_size_is_named(mistake, args, said):
    assert said in mistake(*args)


# rbs prepare


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "cut', "bad.jsonl:2: not valid JSON"),
        ('{"body": "words"}', "bad.jsonl:2: no field 'text'; fields here: 'body'"),
        ('{"text": ["words"]}', "bad.jsonl:2: field 'text' is list, not a string"),
    ],
)
def test_a_bad_line_of_text_is_named_and_nothing_is_left_behind(folder, mistake, line, said):
    (folder / "bad.jsonl").write_text('{"text": "words"}\n' + line + "\n")
    assert said in mistake(*prepare("corpus", text="bad.jsonl"), "--strict")
    assert sorted(path.name for path in folder.iterdir()) == ["bad.jsonl", "good.jsonl", "tiny.py"]


@pytest.mark.parametrize("tokenizer", ["train:300", "corpus"])
def test_unreadable_documents_are_named_once_and_counted(folder, corpus, capsys, tokenizer):
    (folder / "bad.jsonl").write_text("{\n" * 5 + TEXT)
    assert main(prepare("out", text="*.jsonl", tokenizer=tokenizer)) == 0
    said, *more = capsys.readouterr().err.splitlines()
    assert said.startswith("bad.jsonl:1: not valid JSON: ")
    assert [line.split(": ")[0] for line in more] == ["bad.jsonl:2", "bad.jsonl:3", "rbs"]
    assert more[-1] == "rbs: left out 5 documents that cannot be read; --strict refuses them"
    manifest = read_manifest(folder / "out")
    assert (manifest.document_count, manifest.left_out) == (6, {"unreadable": 5})
    # What is left out leaves no trace in the blocks.
    (folder / "bad.jsonl").write_text(TEXT)
    assert main(prepare("again", text="*.jsonl", tokenizer=tokenizer)) == 0
    assert manifest.fingerprint == read_manifest(folder / "again").fingerprint


@pytest.mark.parametrize("tokenizer", ["train:300", "corpus"])
def test_where_no_document_can_be_read_the_first_reason_is_said(folder, corpus, capsys, tokenizer):
    (folder / "bad.jsonl").write_text('{"body": "words"}\n' * 2)
    assert main(prepare("out", text="bad.jsonl", tokenizer=tokenizer)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "rbs: the sources hold no document with text; left out: 2 unreadable; the first that "
        "cannot be read: "
        "bad.jsonl:1: no field 'text'; fields here: 'body'"
    )
    assert not (folder / "out").exists()


def test_a_file_name_need_not_be_utf8(folder):
    (folder / os.fsdecode(b"\xff.jsonl")).write_text(TEXT)
    assert main(prepare("out", text="*.jsonl")) == 0
    assert read_manifest(folder / "out").settings["files"] == ["good.jsonl", "\\udcff.jsonl"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": "missing.jsonl"}, "missing.jsonl: no such file"),
        ({"text": "tiny.py"}, "tiny.py: defines no `recipe = Recipe(...)`"),
        ({"tokenizer": "missing.json"}, "missing.json: no such tokenizer"),
        ({"tokenizer": "good.jsonl"}, "good.jsonl: not a Hugging Face tokenizer"),
        ({"tokenizer": "train:few"}, "--tokenizer train:few: expected train:VOCAB"),
        ({"tokenizer": "train:99"}, "train:99: a byte-level tokenizer needs at least 258 ids"),
        ({"block_length": 10_000}, "not one block of 10000"),
        ({"out": "good.jsonl"}, "good.jsonl: already exists"),
        ({"out": "good.jsonl/below"}, "good.jsonl"),
    ],
)
def test_what_cannot_be_prepared_is_named(mistake, changed, said):
    assert said in mistake(*prepare(**{"out": "corpus"} | changed))


RECIPE = """
from rbs_jax.data.recipe import Recipe

recipe = Recipe(("texts",), "train:300", block_length=4, url_pattern="edu")
"""


def test_a_recipe_s_values_are_the_defaults_of_the_flags(folder):
    (folder / "recipe.py").write_text(RECIPE)
    plain = parse(["prepare", "recipe.py", "--out", "corpus"])
    assert plain.recipe == Recipe(("texts",), "train:300", block_length=4, url_pattern="edu")
    flags = ["--sources", "good.jsonl", "more", "--url-pattern", "None", "--duplicates", "exact"]
    for args in (["recipe.py", *flags], [*flags, "recipe.py"]):
        parsed = parse(["prepare", "--out", "corpus", *args])
        assert parsed.recipe == Recipe(
            ("good.jsonl", "more"), "train:300", block_length=4, duplicates="exact"
        )


def test_a_corpus_is_made_by_a_recipe_with_other_sources(folder):
    (folder / "recipe.py").write_text(RECIPE)
    flags = ["--sources", "good.jsonl", "--url-pattern", "None"]
    assert main(["prepare", "recipe.py", *flags, "--out", "corpus"]) == 0
    kept = read_manifest(folder / "corpus").settings
    assert (kept["sources"], kept["block_length"], kept["url_pattern"]) == (["good.jsonl"], 4, None)


@pytest.mark.parametrize("what", [["recipe.py", "good.jsonl"], ["good.jsonl", "recipe.py"]])
def test_sources_beside_a_recipe_are_refused(folder, mistake, what):
    (folder / "recipe.py").write_text(RECIPE)
    said = mistake("prepare", *what, "--out", "corpus")
    assert said == "rbs: recipe.py: beside a recipe, name other sources with --sources\n"


def test_sources_may_be_named_either_way(folder):
    (folder / "more.jsonl").write_text(TEXT)
    assert main([*prepare("corpus"), "--sources", "more.jsonl"]) == 0
    assert read_manifest(folder / "corpus").settings["files"] == ["good.jsonl", "more.jsonl"]


@pytest.mark.parametrize("equals", [False, True])
def test_options_of_a_pipeline_begin_with_dashes_as_ours_do(equals):
    options = "--runner=DirectRunner --direct_num_workers=4"
    given = [f"--beam={options}"] if equals else ["--beam", options]
    assert parse([*prepare("corpus"), *given, "--strict"]).beam == options


def test_an_option_is_not_taken_for_those_of_a_pipeline(mistake):
    assert "--beam" in mistake(*prepare("corpus"), "--beam", "--strict")


def test_a_corpus_is_never_written_over(folder, corpus, mistake):
    before = {path: path.read_bytes() for path in (folder / corpus).iterdir()}
    assert "corpus: already exists" in mistake(*prepare(corpus))
    # Refused before any text is read, which may take long.
    assert "corpus: already exists" in mistake(*prepare(corpus, text="missing.jsonl"))
    assert before == {path: path.read_bytes() for path in (folder / corpus).iterdir()}


# rbs train


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "bad.py: no such config file"),
        ("experiment = 1\nnope()\n", "bad.py:2: NameError: name 'nope' is not defined"),
        ("experiment = (\n", "bad.py:1: SyntaxError"),
        ("raise ValueError('one\\ntwo')\n", "bad.py:1: ValueError: one"),
        ("settings = 1\n", "bad.py: defines no `experiment = Experiment(...)`"),
        ("experiment = {'seed': 1}\n", "bad.py: defines no `experiment = Experiment(...)`"),
    ],
    ids=["missing", "raises", "syntax", "two lines", "no experiment", "another kind"],
)
def test_a_bad_config_file_is_named(folder, mistake, text, said):
    if text is not None:
        (folder / "bad.py").write_text(text)
    assert said in mistake("train", "bad.py", "--train.steps", "3")


def test_the_config_file_is_read_after_options_too(folder, mistake):
    (folder / "bad.py").write_text("nope()\n")
    assert "bad.py:1: NameError" in mistake("train", "--train.steps", "3", "bad.py")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "data.train is not set: give the corpus to train on with --data.train"),
        (["--data.train", "good.jsonl"], "good.jsonl: no corpus here"),
        (["--data.train", "missing"], "missing: no corpus here"),
        (["--data.train", "corpus", "--data.test", "missing"], "missing: no corpus here"),
        (["--data.train", "corpus", "--model.vocab-size", "99"], "ids, model.vocab_size is 99"),
        (["--data.train", "corpus", "--grid.prefixes", "99"], "fewer than the 99 of one batch"),
        (
            ["--data.train", "corpus", "--split.suffix-length", "3"],
            "blocks of 4 ids are shorter than prefix + suffix = 5",
        ),
    ],
)
def test_a_corpus_that_does_not_fit_is_named(corpus, mistake, args, said):
    assert said in mistake("train", "tiny.py", *args)


def test_corpora_with_different_tokenizers_are_refused(folder, corpus, mistake):
    assert main(prepare("test", tokenizer="train:270")) == 0
    said = mistake("train", "tiny.py", "--data.train", corpus, "--data.test", "test")
    assert said.startswith("rbs: data.test test: not the tokenizer of data.train; prepare it with")


def test_several_corpora_and_their_weights_are_given_one_after_another(folder, corpus, mistake):
    parsed = parse(
        ["train", "tiny.py", "--data.train", "a", "s3://b/c", "--data.weights", "0.7", "0.3"]
    )
    assert parsed.experiment.data.train == ("a", "s3://b/c")
    assert parsed.experiment.data.weights == (0.7, 0.3)
    assert "data.weights are 1" in mistake("train", "tiny.py", "--data.weights", "0.7")


# rbs score and rbs eval


def test_an_evaluation_s_corpus_may_be_a_url(run, folder, corpus, mistake, monkeypatch):
    monkeypatch.setenv("RBS_CACHE", str(folder / "cache"))
    url = f"file://{folder}/missing"
    said = mistake("eval", run, "heldout", "--data", url, "--out", "eval")
    assert said.startswith(f"rbs: {url}: no corpus here")
    url = f"file://{folder}/{corpus}"
    said = mistake("eval", run, "heldout", "--data", url, "--out", run)  # refused for its --out
    assert "holds a run with a result of its own" in said


def test_a_model_that_is_no_run_is_named(corpus, mistake):
    score = mistake("score", corpus, "good.jsonl", "--out", "scores.jsonl")
    evaluate = mistake("eval", corpus, "heldout", "--data", corpus, "--out", "eval")
    assert score == evaluate
    assert "corpus: no model here" in score


def test_a_missing_checkpoint_is_named_with_those_there(run, mistake):
    said = mistake("score", f"{run}@8", "good.jsonl", "--out", "scores.jsonl")
    assert f"{run}@8: no such checkpoint; here are 7" in said


def test_a_missing_file_to_score_is_named(run, mistake):
    assert "missing.jsonl: no such file" in mistake("score", run, "missing.jsonl", "--out", "x")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a"}', ":2: no field 'responses'; fields here: 'prompt'"),
        ('{"prompt": "a", "responses": "b"}', ":2: field 'responses' must be a list of strings"),
        ('{"prompt": "a", "responses": ["b", 3]}', ":2: responses[1] is int, not a string"),
        ('{"responses": ["b"]}', ":2: no field 'prompt'; fields here: 'responses'"),
        ('{"prompt": "a", "responses": ["\\ud800"]}', ":2: responses[0] holds a lone surrogate"),
    ],
)
def test_a_line_that_cannot_be_scored_is_named_and_leaves_no_file(folder, run, mistake, line, said):
    (folder / "bad.jsonl").write_text('{"prompt": "a", "responses": ["b"]}\n' + line + "\n")
    assert f"bad.jsonl{said}" in mistake("score", run, "bad.jsonl", "--out", "scores.jsonl")
    assert not list(folder.glob("scores*"))


def test_a_corpus_with_another_tokenizer_than_the_models_is_refused(run, mistake):
    assert main(prepare("other", tokenizer="train:270")) == 0
    said = mistake("eval", run, "heldout", "--data", "other", "--out", "eval")
    assert f"other: not the tokenizer of {run}@7; prepare it with --tokenizer {run}" in said


def test_a_config_that_is_no_python_file_is_refused(folder, mistake):
    assert "tiny.txt: a config is a .py file" in mistake("train", "tiny.txt")


def test_an_evaluation_never_overwrites_a_run(run, corpus, mistake):
    said = mistake("eval", run, "heldout", "--data", corpus, "--out", run)
    assert "holds a run with a result of its own" in said


@pytest.mark.parametrize("content", ["{}", "[]", "notes", '{"test": {"in_batch": 1}}', "\udcff"])
def test_an_evaluation_overwrites_no_result_of_another_kind(folder, run, corpus, mistake, content):
    result = folder / "other" / "result.json"
    result.parent.mkdir()
    result.write_text(content, errors="surrogateescape")
    said = mistake("eval", run, "heldout", "--data", corpus, "--out", "other")
    assert "other/result.json: is no result of this command" in said
    assert result.read_text(errors="surrogateescape") == content


def test_what_the_file_system_refuses_is_one_line(run, folder, mistake):
    (folder / "in.jsonl").write_text("")
    (folder / "file").write_text("")
    assert "file" in mistake("score", run, "in.jsonl", "--out", "file/out.jsonl")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('duplicates="nearly"', "duplicates is 'nearly', it must be keep, exact or near"),
        ('sources="good.jsonl"', "sources is 'good.jsonl', it must be a tuple of strings"),
        ("benchmarks=(3,)", "benchmarks is (3,), it must be a tuple of strings"),
    ],
)
def test_a_recipe_s_file_with_a_wrong_value_is_named(folder, value, said):
    (folder / "recipe.py").write_text(
        f"from rbs_jax.data.recipe import Recipe\nrecipe = Recipe({value})\n"
    )
    done = subprocess.run(  # here, arguments' types are checked before they come so far
        [sys.executable, "-m", "rbs_jax", "prepare", "recipe.py", "--out", "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_a_run_that_was_asked_to_leave_ends_with_a_status_of_its_own(monkeypatch, capsys):
    def leave(self):
        raise Preempted("asked to leave, saved step 7 in runs/a")

    monkeypatch.setattr("rbs_jax.commands.Inspect.run", leave)
    assert main(["inspect", "corpus"]) == 75
    said = "rbs: asked to leave, saved step 7 in runs/a; the same command goes on\n"
    assert capsys.readouterr().err == said


def test_who_calls_it_may_take_a_mistake_in_hand(capsys):
    told = []
    assert main(["nothing"], refuse=lambda reason, _: told.append(reason) or 9) == 9
    assert "no command 'nothing'" in told[0]
    assert capsys.readouterr().err == ""
