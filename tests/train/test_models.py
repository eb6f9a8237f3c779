import dataclasses
import json

import jax
import numpy as np
import pytest

from rbs_jax.convert.weights import leaf_paths
from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.template import TemplateConfig
from rbs_jax.data.tokens import Tokens, load_tokens, train_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import DataConfig, Experiment, to_json
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import fresh, shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.loop import train
from rbs_jax.train.metrics import TIME_FIELDS, read_metrics
from rbs_jax.train.models import RECORD, find_model, load_model, start_model, with_sizes
from rbs_jax.train.state import TrainState, abstract
from tests.convert.folders import TINY, write_config, write_folder
from tests.tiny import made_up_documents

PLAIN = TransformerConfig(dtype="float32", init_scale=0.5)
"""A model that says no size."""


def started_from(name, loss="bradley_terry", seed=7, **changed):
    model = dataclasses.replace(PLAIN, init=str(name), **changed)
    return with_sizes(Experiment(model=model, objective=ObjectiveConfig(loss=loss), seed=seed))


def start(experiment, mesh):
    return jax.device_get(start_model(experiment, mesh))


def random_model(kind, config, seed):
    """Random numbers in every leaf, without the compilation of a fresh model."""
    chance, mesh = np.random.default_rng(seed), jax.sharding.get_mesh()

    def drawn(x):
        return jax.device_put(chance.normal(size=x.shape).astype(np.float32), x.sharding)

    return jax.tree.map(drawn, abstract(mesh, shapes_of(kind, config)))


def write_run(folder, kind, config=TINY, steps=(1,), **fields):
    """A run's folder with random models, one a step; returns them on the host."""
    loss = "causal_lm" if kind is LanguageModel else "bradley_terry"
    experiment = Experiment(model=config, objective=ObjectiveConfig(loss=loss), **fields)
    models = {}
    with Checkpoints(folder, keep=9) as checkpoints:
        for step in steps:
            models[step] = random_model(kind, config, step)
            none = np.zeros((), np.int32)
            state = TrainState(models[step], (), none, none)
            checkpoints.save(step, state, {"next_step": step}, experiment, {})
    train_tokens(["words"], 258).save(folder)
    return jax.device_get(models)


def assert_same(got, expected):
    """Equal leaves; what a model notes of its start may differ."""
    got, expected = dict(leaf_paths(got)), dict(leaf_paths(expected))
    assert set(got) == set(expected)
    for path, leaf in got.items():
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)


@pytest.fixture
def language_folder(tmp_path):
    write_folder(tmp_path / "causal", dtype="bfloat16")
    return tmp_path / "causal"


@pytest.fixture
def reward_folder(tmp_path):
    write_folder(tmp_path / "reward", head="TokenClassification")
    return tmp_path / "reward"


def test_a_name_says_a_folder_and_a_step_and_is_said_again(tmp_path, mesh):
    write_run(tmp_path / "run", RewardModel, steps=(2, 5))
    write_folder(tmp_path / "hub")
    for given, step, said in (
        ("run", 5, "run@5"),
        ("run@2", 2, "run@2"),
        ("run@init", 0, "run@init"),
        ("hub", None, "hub"),
    ):
        found = find_model(str(tmp_path / given))
        assert found.step == step
        assert str(found) == str(tmp_path / said)
        assert find_model(str(found)) == found


def test_a_hugging_face_folder_has_no_steps(language_folder):
    with pytest.raises(UserError, match=r"causal@best: a Hugging Face folder has no checkpoints"):
        find_model(f"{language_folder}@best")


def test_a_folder_may_have_an_at_in_its_name(tmp_path):
    write_folder(tmp_path / "me@home")
    assert find_model(str(tmp_path / "me@home")).folder == str(tmp_path / "me@home")


def test_a_run_with_a_config_json_of_somebody_is_a_run(tmp_path, mesh):
    write_run(tmp_path, RewardModel)
    write_config(tmp_path, TINY)
    assert find_model(str(tmp_path)).step == 1


def test_a_folder_is_of_the_kind_of_its_head_and_computes_in_its_dtype(tmp_path):
    for head, kind in (
        ("CausalLM", LanguageModel),
        ("SequenceClassification", RewardModel),
        ("TokenClassification", RewardModel),
    ):
        write_folder(tmp_path / head, head=head, dtype="bfloat16")
        experiment = find_model(str(tmp_path / head)).experiment
        assert experiment.kind is kind
        assert experiment.model.dtype == "bfloat16"
        assert experiment.template == TemplateConfig()
    write_config(tmp_path / "CausalLM", TINY, torch_dtype="float32")
    assert find_model(str(tmp_path / "CausalLM")).experiment.model.dtype == "float32"
    path = tmp_path / "CausalLM" / "config.json"
    path.write_text(path.read_text().replace("torch_dtype", "dtype"))
    assert find_model(str(tmp_path / "CausalLM")).experiment.model.dtype == "float32"


def test_a_reward_model_with_a_chat_template_scores_by_it(tmp_path):
    write_folder(tmp_path, head="SequenceClassification")
    tokens = train_tokens(["words"], 258)
    tokens.save(tmp_path)
    assert find_model(str(tmp_path)).experiment.template.form == "plain"
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    Tokens(tokens._tokenizer, tokens.end, chat_template=template).save(tmp_path)
    assert find_model(str(tmp_path)).experiment.template.form == "chat"


def test_the_record_of_an_export_says_how_to_score_and_config_json_the_sizes(tmp_path):
    write_folder(tmp_path, head="SequenceClassification")
    own = Experiment(seed=9, template=TemplateConfig("human_assistant"), model=PLAIN)
    (tmp_path / RECORD).write_text(json.dumps({"experiment": to_json(own)}))
    got = find_model(str(tmp_path)).experiment
    assert (got.seed, got.template) == (9, own.template)
    assert got.model == dataclasses.replace(TINY, init_scale=0.5)
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(UserError, match=f"{RECORD}: not what rbs export writes"):
        find_model(str(tmp_path))


def test_the_bias_of_a_token_classifier_is_part_of_its_scores(reward_folder, mesh):
    train_tokens(["words"], 258).save(reward_folder)
    loaded = load_model(find_model(str(reward_folder)), mesh)
    assert loaded.experiment.model.head_offset == 0.75
    prompts, responses = ["a prompt"], [["one", "another"]]
    with_bias = Scorer(loaded, mesh).score(prompts, responses)
    plain = dataclasses.replace(TINY, head_offset=0.0)
    leaves = jax.tree.leaves(loaded.model)
    bare = jax.tree.unflatten(jax.tree.structure(shapes_of(RewardModel, plain)), leaves)
    without = Scorer(loaded._replace(model=bare), mesh).score(prompts, responses)
    np.testing.assert_allclose(np.array(with_bias) - np.array(without), 0.75, atol=1e-6)


def test_to_score_a_folder_needs_its_tokenizer_and_to_start_from_it_does_not(reward_folder, mesh):
    with pytest.raises(UserError, match=r"tokenizer\.json: no such tokenizer"):
        load_model(find_model(str(reward_folder)), mesh)
    start_model(started_from(reward_folder), mesh)


def test_from_a_language_folder_the_head_is_new_and_that_of_a_fresh_model(
    language_folder, mesh, capsys
):
    experiment = started_from(language_folder, seed=11)
    got = start(experiment, mesh)
    told = capsys.readouterr().err
    assert f"{language_folder}: has no head of this kind, drawn from N(0, 0.5^2)" in told
    assert "left out lm_head.weight" in told
    other = jax.device_get(fresh(RewardModel, 11, experiment.model))
    assert_same(got.head, other.head)
    assert 0.2 < np.std(got.head[...]) < 1.0
    assert not np.array_equal(got.trunk.embedding[...], other.trunk.embedding[...])
    source = start(started_from(language_folder, "causal_lm"), mesh)
    assert_same(got.trunk, source.trunk)
    again = start(started_from(language_folder, seed=12), mesh)
    assert not np.array_equal(got.head[...], again.head[...])


def test_from_a_folder_of_the_same_kind_nothing_is_new(language_folder, reward_folder, mesh):
    for folder, loss in ((language_folder, "causal_lm"), (reward_folder, "bradley_terry")):
        one, two = (start(started_from(folder, loss, seed), mesh) for seed in (1, 2))
        assert_same(one, two)
    assert one.offset == 0.75


def test_a_reward_folder_without_its_head_is_broken_and_gets_no_new_one(tmp_path, mesh):
    write_folder(tmp_path, head="CausalLM")
    write_config(tmp_path, TINY, "SequenceClassification")
    with pytest.raises(UserError, match=r"tensors missing: score\.weight"):
        start_model(started_from(tmp_path), mesh)


def test_a_language_model_from_a_reward_folder_has_a_new_head_unless_embeddings_are_tied(
    reward_folder, tmp_path, mesh, capsys
):
    experiment = started_from(reward_folder, "causal_lm", seed=5)
    assert experiment.model.head_offset == 0.0
    got = start(experiment, mesh)
    other = jax.device_get(fresh(LanguageModel, 5, experiment.model))
    assert_same(got.head, other.head)
    assert_same(got.trunk, start(started_from(reward_folder), mesh).trunk)
    assert "left out score.weight" in capsys.readouterr().err
    tied = dataclasses.replace(TINY, tied_embeddings=True)
    write_folder(tmp_path / "tied", tied, "SequenceClassification")
    got = start(started_from(tmp_path / "tied", "causal_lm"), mesh)
    assert got.head.weight is None
    assert "drawn from" not in capsys.readouterr().err


def test_from_a_run_trunk_and_a_head_of_the_same_kind_are_its_own(tmp_path, mesh, capsys):
    models = write_run(tmp_path, RewardModel, dataclasses.replace(TINY, head_offset=0.5), (2, 5))
    for name, step in ((tmp_path, 5), (f"{tmp_path}@2", 2)):
        got = start(started_from(name), mesh)
        assert_same(got, models[step])
        assert got.offset == 0.5
    assert "drawn from" not in capsys.readouterr().err


@pytest.mark.parametrize("tied", [True, False])
def test_from_a_language_run_a_reward_model_has_its_trunk_and_a_new_head(
    tied, tmp_path, mesh, capsys
):
    config = dataclasses.replace(TINY, tied_embeddings=tied)
    models = write_run(tmp_path, LanguageModel, config)
    experiment = started_from(tmp_path)
    got = start(experiment, mesh)
    assert_same(got.trunk, models[1].trunk)
    assert_same(got.head, jax.device_get(fresh(RewardModel, 7, experiment.model)).head)
    assert f"{tmp_path}@1: has no head of this kind" in capsys.readouterr().err


def test_from_the_init_of_a_run_it_is_what_that_run_started_from(language_folder, tmp_path, mesh):
    first = started_from(language_folder, seed=3)
    write_run(tmp_path / "run", RewardModel, first.model, seed=3)
    got = start(started_from(f"{tmp_path / 'run'}@init", seed=4), mesh)
    assert_same(got, start(first, mesh))


def test_all_sizes_are_those_of_the_source_and_choices_stay(language_folder):
    model = started_from(language_folder, remat="dots", scan_layers=False).model
    own = {"init": str(language_folder), "init_scale": 0.5, "remat": "dots", "scan_layers": False}
    assert model == dataclasses.replace(TINY, **own)
    assert started_from(language_folder, dtype="bfloat16").model.dtype == "bfloat16"


def test_without_a_source_nothing_changes():
    experiment = Experiment(model=PLAIN)
    assert with_sizes(experiment) == experiment


def test_the_sizes_of_a_source_are_found_again_unchanged(reward_folder):
    once = started_from(reward_folder)
    assert once.model.head_offset == 0.75
    assert with_sizes(once) == once


@pytest.mark.parametrize(
    ("field", "value", "theirs"),
    [
        ("width", 32, 16),
        ("vocab_size", 301, 300),
        ("num_layers", 4, 3),
        ("rope_theta", 5e5, 10000.0),
        ("norm_eps", 1e-6, 1e-5),
        ("qkv_bias", True, False),
        ("sliding_window", 4, None),
        ("max_positions", 129, 128),
    ],
)
def test_other_sizes_than_the_source_has_are_refused(field, value, theirs, language_folder):
    with pytest.raises(UserError) as raised:
        started_from(language_folder, **{field: value})
    assert str(raised.value).startswith(
        f"model.{field} is {value}, but {theirs} in {language_folder}, which model.init names"
    )


def test_a_shorter_context_may_be_asked_for(language_folder, tmp_path):
    write_config(tmp_path / "long", dataclasses.replace(TINY, max_positions=4096))
    assert started_from(tmp_path / "long", max_positions=512).model.max_positions == 512
    assert started_from(tmp_path / "long").model.max_positions == 4096
    assert started_from(language_folder, max_positions=128).model.max_positions == 128


def test_the_sizes_that_a_source_brings_are_checked_against_the_text_and_the_mesh(tmp_path):
    write_config(tmp_path, TINY)
    experiment = Experiment(model=dataclasses.replace(PLAIN, init=str(tmp_path)))
    longer = dataclasses.replace(experiment.split, prefix_length=100)
    with pytest.raises(UserError, match=r"= 164 tokens exceed model\.max_positions 128"):
        with_sizes(dataclasses.replace(experiment, split=longer))
    with pytest.raises(UserError, match=r"mesh\.tensor 4 does not divide model\.num_kv_heads 2"):
        with_sizes(dataclasses.replace(experiment, mesh=MeshConfig(tensor=4)))
    own = Experiment(model=dataclasses.replace(PLAIN, init="nowhere"), mesh=MeshConfig(tensor=8))
    with pytest.raises(UserError, match="nowhere: no model here"):
        with_sizes(own)


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("optim.prefixes_per_update", {"optim": {"prefixes_per_update": 1}}),
        ("optim.freeze trunk", {"optim": {"freeze": "trunk"}}),
        ("template.form", {"template": {"form": "human_assistant"}}),
        ("grid.same_document seek", {"grid": {"same_document": "seek"}}),
        ("grid.permute_positives", {"grid": {"permute_positives": True}}),
        ("grid.negatives_per_prefix", {"grid": {"negatives_per_prefix": 2}}),
    ],
)
def test_what_means_nothing_to_a_language_model_is_refused(said, fields):
    plain = Experiment()
    parts = {name: dataclasses.replace(getattr(plain, name), **own) for name, own in fields.items()}
    dataclasses.replace(plain, **parts)
    with pytest.raises(UserError, match=f"^{said} means nothing to objective.loss causal_lm"):
        Experiment(objective=ObjectiveConfig(loss="causal_lm"), **parts)


def from_folder(experiment, folder, steps=4, **changed):
    """The tiny run of the other tests, started from a folder."""
    model = dataclasses.replace(PLAIN, init=str(folder), **changed)
    shorter = dataclasses.replace(experiment.train, steps=steps)
    return dataclasses.replace(experiment, model=model, train=shorter)


def records(out):
    return [
        {name: value for name, value in record.items() if name not in TIME_FIELDS}
        for record in read_metrics(out / "metrics.jsonl")
    ]


@pytest.mark.slow
def test_a_run_from_a_folder_goes_on_as_an_unbroken_one_and_init_names_its_start(
    experiment, language_folder, corpora, tmp_path, mesh
):
    load_tokens(corpora / "train").save(language_folder)
    unbroken = train(from_folder(experiment, language_folder), tmp_path / "unbroken")
    train(from_folder(experiment, language_folder, steps=2), tmp_path / "broken")
    again = train(from_folder(experiment, language_folder), tmp_path / "broken")
    assert records(tmp_path / "broken") == records(tmp_path / "unbroken")
    assert len(records(tmp_path / "broken")) == 4
    assert again["test"] == unbroken["test"]
    assert again["untrained"] == unbroken["untrained"]

    found = find_model(f"{tmp_path / 'unbroken'}@init")
    expected = start(with_sizes(from_folder(experiment, language_folder)), mesh)
    assert_same(jax.device_get(load_model(found, mesh).model), expected)
    last = load_model(find_model(str(tmp_path / "unbroken")), mesh).model
    assert not np.array_equal(last.head[...], expected.head[...])

    with pytest.raises(UserError, match=r"model\.max_positions: 128 -> 64"):
        train(from_folder(experiment, language_folder, max_positions=64), tmp_path / "unbroken")


def test_a_corpus_of_another_tokenizer_than_the_source_is_refused(
    experiment, language_folder, tmp_path, mesh
):
    own = train_tokens(made_up_documents(9, seed=3), 280)
    own.save(language_folder)
    write_run(tmp_path / "run", RewardModel)
    for folder in (language_folder, tmp_path / "run"):
        with pytest.raises(UserError) as raised:
            train(from_folder(experiment, folder), tmp_path / "out")
        assert "not the tokenizer of model.init" in str(raised.value)
        assert str(raised.value).endswith(f"prepare it with --tokenizer {folder}")
    more = train_tokens(made_up_documents(200, seed=3), 400)
    write_corpus(made_up_documents(80), tmp_path / "more", more, 16, {})
    larger = dataclasses.replace(experiment, data=DataConfig(train=(str(tmp_path / "more"),)))
    with pytest.raises(UserError, match=r"not the tokenizer of model\.init"):
        train(from_folder(larger, language_folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_text_longer_than_the_model_reads_is_refused_whatever_makes_it_long(experiment, tmp_path):
    model = dataclasses.replace(experiment.model, max_positions=16)
    fits = dataclasses.replace(experiment, model=model)
    templated = dataclasses.replace(fits, template=TemplateConfig("human_assistant"))
    with pytest.raises(UserError, match=r"prefix, suffix and template of \d\d tokens exceed"):
        train(templated, tmp_path / "out")
    halves = dataclasses.replace(experiment.split, prefix_length=4, suffix_length=4)
    language = dataclasses.replace(
        experiment,
        objective=ObjectiveConfig(loss="causal_lm"),
        split=halves,
        model=dataclasses.replace(model, max_positions=15),
    )
    with pytest.raises(UserError, match=r"a block of 16 tokens exceed model\.max_positions 15"):
        train(language, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_when_what_it_started_from_has_moved(
    experiment, language_folder, corpora, tmp_path, mesh
):
    load_tokens(corpora / "train").save(language_folder)
    asked = from_folder(experiment, language_folder, steps=1)
    train(asked, tmp_path / "run")
    language_folder.rename(tmp_path / "elsewhere")
    more = dataclasses.replace(asked.train, steps=2)
    assert train(dataclasses.replace(asked, train=more), tmp_path / "run")["steps"] == 2
    with pytest.raises(UserError, match=f"{language_folder}: no model here"):
        train(asked, tmp_path / "other")


def test_a_source_is_named_with_its_step(tmp_path, mesh):
    write_run(tmp_path / "run", RewardModel)
    assert started_from(tmp_path / "run").model.init == f"{tmp_path / 'run'}@1"


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(tmp_path, mesh):
    write_run(tmp_path / "run", RewardModel)
    train_tokens(made_up_documents(200, seed=3), 400).save(tmp_path / "run")
    with pytest.raises(UserError, match=r"tokenizer has 400 ids, the model's embeddings 300 rows"):
        load_model(find_model(str(tmp_path / "run")), mesh)


def test_a_folder_of_few_positions_is_found(tmp_path):
    write_folder(tmp_path, dataclasses.replace(TINY, max_positions=20))
    assert find_model(str(tmp_path)).experiment.split == SplitConfig(10, 10)
