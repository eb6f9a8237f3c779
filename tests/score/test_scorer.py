import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.data.template import TemplateConfig
from rbs_jax.data.tokens import PAD, Tokens, train_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.model.kinds import fresh
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel, scores
from rbs_jax.score import files
from rbs_jax.score import scorer as module
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.models import LoadedModel
from rbs_jax.train.state import TrainState
from tests.tiny import TINY, made_up_documents

CONFIG = dataclasses.replace(TINY, vocab_size=300, max_positions=24)
EXPERIMENT = Experiment(
    model=CONFIG, split=dataclasses.replace(Experiment().split, prefix_length=8, suffix_length=8)
)
TOKENS = train_tokens(made_up_documents(50), 300)
PROMPTS = ["abc def ghi", "", "a", "hij abc"]
RESPONSES = [[" one", " two words", ""], ["x", "xyz"], [], ["same", "same", "same but longer"]]


def fresh_model():
    """Noise on the weights, so that scores differ by more than rounding."""
    model = jax.jit(RewardModel, static_argnums=1)(jax.random.key(0), CONFIG)
    chance = np.random.default_rng(0)

    def noisy(x):
        drawn = 0.3 * chance.normal(size=x.shape).astype(np.float32)
        return jax.device_put(np.asarray(x) + drawn, x.sharding)

    return jax.tree.map(noisy, model)


def scorer_on(shape):
    mesh = make_mesh(MeshConfig(*shape))
    return mesh, lambda: Scorer(LoadedModel(fresh_model(), EXPERIMENT, TOKENS), mesh)


@pytest.fixture
def scorer():
    mesh, make = scorer_on((1, 1, 1))
    with jax.set_mesh(mesh):
        yield make()


def alone(text):
    """The reward of one whole text, by the plain path."""
    ids = TOKENS.encode([text])[0][-CONFIG.max_positions :]
    rows = np.zeros((1, 1, 1, CONFIG.max_positions), np.int32)
    rows[..., : len(ids)] = ids
    return jax.jit(scores)(fresh_model(), jnp.array(rows), jnp.array([[[len(ids)]]])).item()


def test_a_response_scores_as_its_whole_text_alone(scorer):
    got = scorer.score(PROMPTS, RESPONSES)
    for prompt, responses, own in zip(PROMPTS, RESPONSES, got, strict=True):
        assert own == pytest.approx([alone(prompt + r) for r in responses], rel=1e-4, abs=1e-5)


def test_a_score_depends_on_no_neighbour_batch_or_order(scorer, monkeypatch):
    expected = dict(zip(PROMPTS, scorer.score(PROMPTS, RESPONSES), strict=True))
    monkeypatch.setattr("rbs_jax.score.grids.TOKENS_PER_CALL", 1)
    backwards = scorer.score(PROMPTS[::-1], RESPONSES[::-1])
    for prompt, own in zip(PROMPTS[::-1], backwards, strict=True):
        assert own == pytest.approx(expected[prompt], rel=1e-5, abs=1e-6)
    for prompt, responses in zip(PROMPTS, RESPONSES, strict=True):
        for i, response in enumerate(responses):
            single = scorer.score([prompt], [[response]])[0][0]
            assert single == pytest.approx(expected[prompt][i], rel=1e-4, abs=1e-5)


def test_a_score_does_not_depend_on_the_mesh(scorer):
    expected = scorer.score(PROMPTS, RESPONSES)
    mesh, make = scorer_on((2, 2, 2))
    with jax.set_mesh(mesh):
        got = make().score(PROMPTS, RESPONSES)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_a_long_prompt_loses_its_start_and_a_long_response_its_score(scorer):
    prompt = "abcdefghij" * 9
    fits, too_long = "end", "jihgfedcba" * 9
    assert len(TOKENS.encode([prompt])[0]) > CONFIG.max_positions
    assert len(TOKENS.encode([too_long])[0]) > CONFIG.max_positions
    ((score, none),) = scorer.score([prompt], [[fits, too_long]])
    assert none is None
    assert score == pytest.approx(alone(prompt + fits), rel=1e-4, abs=1e-5)


def test_a_long_prompt_keeps_its_beginning_of_text(scorer):
    chat = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokens = Tokens(TOKENS._tokenizer, TOKENS.end, {"bos_token": PAD}, chat)
    experiment = dataclasses.replace(EXPERIMENT, template=TemplateConfig("chat"))
    loaded = LoadedModel(fresh_model(), experiment, tokens)
    chatting = Scorer(loaded, make_mesh(MeshConfig()))
    prompt = "abcdefghij" * 9
    ids = TOKENS.encode([prompt + "end"])[0]
    kept = [tokens.bos_id, *ids[1 - CONFIG.max_positions :]]
    assert len(kept) == CONFIG.max_positions
    expected = jax.jit(scores)(fresh_model(), jnp.array([[[kept]]]), jnp.array([[[len(kept)]]]))
    assert chatting.score([prompt], [["end"]])[0][0] == pytest.approx(expected.item(), rel=1e-4)


def test_a_prompt_may_be_messages_and_a_template_that_refuses_them_names_the_prompt(scorer):
    messages = [{"role": "user", "content": "abc "}, {"role": "user", "content": "def"}]
    assert scorer.score([messages], [[" x"]]) == scorer.score(["abc def"], [[" x"]])
    tokens = Tokens(TOKENS._tokenizer, TOKENS.end, {}, "{{ raise_exception('no such role') }}")
    experiment = dataclasses.replace(EXPERIMENT, template=TemplateConfig("chat"))
    refusing = Scorer(LoadedModel(fresh_model(), experiment, tokens), make_mesh(MeshConfig()))
    with pytest.raises(UserError, match=r"^prompt 0: chat template: .*no such role"):
        refusing.score(["a"], [["b"]])
    with pytest.raises(UserError, match=r"^file\.jsonl:3: chat template"):
        refusing.score(["a"], [["b"]], ["file.jsonl:3"])


def test_a_language_model_has_no_rewards(mesh):
    model = fresh(LanguageModel, 0, CONFIG)
    with pytest.raises(UserError, match="a language model has no rewards"):
        Scorer(LoadedModel(model, EXPERIMENT, TOKENS), mesh)


def test_a_text_without_any_token_has_no_score(scorer):
    assert scorer.score([""], [["", "a"]])[0][0] is None


@pytest.fixture
def run(tmp_path):
    with jax.set_mesh(make_mesh(MeshConfig())), Checkpoints(tmp_path, keep=1) as checkpoints:
        none = jnp.zeros((), jnp.int32)
        state = TrainState(fresh_model(), {}, none, none)
        checkpoints.save(1, state, {"next_step": 1}, EXPERIMENT, {})
    TOKENS.save(tmp_path)
    return tmp_path


def test_a_file_comes_back_line_by_line_with_scores(run, scorer, monkeypatch):
    monkeypatch.setattr(files, "LINES", 3)
    lines = [
        {"prompt": p, "responses": r, "id": i, "odd": "\ud800 é"}
        for i, (p, r) in enumerate(zip(PROMPTS, RESPONSES, strict=True))
    ]
    (run / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = files.score_file(str(run), str(run / "in.jsonl"), str(run / "new" / "out.jsonl"))
    out = [json.loads(line) for line in (run / "new" / "out.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in line.items() if k != "scores"} for line in out] == lines
    for line, expected in zip(out, scorer.score(PROMPTS, RESPONSES), strict=True):
        assert line["scores"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (counts["lines"], counts["responses"], counts["null_scores"]) == (4, 8, 0)
    assert [p.name for p in (run / "new").iterdir()] == ["out.jsonl"]


def test_an_empty_file_gives_an_empty_file(run):
    (run / "in.jsonl").write_text("")
    assert files.score_file(str(run), str(run / "in.jsonl"), str(run / "out.jsonl"))["lines"] == 0
    assert (run / "out.jsonl").read_text() == ""


def test_many_responses_to_one_prompt_go_in_several_calls(scorer, monkeypatch):
    responses = [f" {word}" for word in "abcdefghij"]
    expected = scorer.score(["abc"], [responses])
    monkeypatch.setattr("rbs_jax.score.grids.TOKENS_PER_CALL", 48)
    sizes, compute = [], module._rewards_and_features
    monkeypatch.setattr(
        module,
        "_rewards_and_features",
        lambda m, x: sizes.append(x.suffixes.shape) or compute(m, x),
    )
    assert scorer.score(["abc"], [responses])[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-5)
    assert len(sizes) > 1
    assert all(suffixes * length <= 64 for _, _, suffixes, length in sizes)


def test_a_reward_that_is_no_number_is_refused(scorer):
    model = fresh_model()
    broken = jax.tree.map(lambda x: x * np.nan, model)
    with pytest.raises(UserError, match="not finite"):
        Scorer(LoadedModel(broken, EXPERIMENT, TOKENS), make_mesh(MeshConfig())).score(
            ["a"], [["b"]]
        )
