import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.data.template import TemplateConfig
from rbs_jax.data.tokens import PAD, Tokens
from rbs_jax.errors import UserError
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import scores
from rbs_jax.score import scorer as module
from rbs_jax.score.scorer import Scorer
from tests.score.tiny import CONFIG, PROMPTS, RESPONSES, TOKENS, loaded_on, scorer_on


@pytest.fixture
def scorer():
    return scorer_on()


def alone(ids):
    """The reward of one whole text, by the plain path."""
    ids = ids[-CONFIG.max_positions :]
    rows = np.zeros((1, 1, 1, CONFIG.max_positions), np.int32)
    rows[..., : len(ids)] = ids
    loaded = loaded_on((1, 1, 1))
    with jax.set_mesh(loaded.model.head[...].sharding.mesh):
        return jax.jit(scores)(loaded.model, jnp.array(rows), jnp.array([[[len(ids)]]])).item()


def ids_of(text):
    return TOKENS.encode([text])[0]


def test_a_response_scores_as_its_whole_text_alone(scorer):
    got = scorer.score(PROMPTS, RESPONSES)
    for prompt, responses, own in zip(PROMPTS, RESPONSES, got, strict=True):
        expected = [alone(ids_of(prompt + r)) for r in responses]
        assert own == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_features_times_the_head_are_the_scores(scorer):
    loaded = loaded_on((1, 1, 1), head_offset=0.5)
    got = Scorer(loaded).score(PROMPTS, RESPONSES)
    features = Scorer(loaded).features(PROMPTS, RESPONSES)
    head = np.asarray(loaded.model.head[...])
    for own, x in zip(got, features, strict=True):
        assert x.dtype == np.float32
        assert x.shape == (len(own), CONFIG.width)
        assert own == pytest.approx((x @ head + 0.5).tolist(), rel=1e-5, abs=1e-5)
    assert np.ptp(features[0], axis=0).min() > 0


def test_a_response_without_a_score_has_no_features(scorer):
    too_long = "jihgfedcba" * 9
    (features,) = scorer.features(["abc"], [["end", too_long]])
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1]).all()


def test_a_long_prompt_loses_its_start_and_a_long_response_its_score(scorer):
    prompt = "abcdefghij" * 9
    fits, too_long = "end", "jihgfedcba" * 9
    assert len(ids_of(prompt)) > CONFIG.max_positions
    assert len(ids_of(too_long)) > CONFIG.max_positions
    ((score, none),) = scorer.score([prompt], [[fits, too_long]])
    assert none is None
    assert score == pytest.approx(alone(ids_of(prompt + fits)), rel=1e-4, abs=1e-5)


def test_a_response_that_fills_the_context_is_scored_and_one_token_more_is_not(scorer):
    word = TOKENS.decode([[ids_of("abc")[0]]])[0]
    fill = next(w for n in range(99) if len(ids_of(w := word * n)) == CONFIG.max_positions)
    more = next(w for n in range(99) if len(ids_of(w := word * n)) == CONFIG.max_positions + 1)
    ((score, none),) = scorer.score([""], [[fill, more]])
    assert none is None
    assert score == pytest.approx(alone(ids_of(fill)), rel=1e-4, abs=1e-5)


def test_a_long_prompt_keeps_its_beginning_of_text():
    chat = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokens = Tokens(TOKENS._tokenizer, TOKENS.end, {"bos_token": PAD}, chat)
    chatting = scorer_on(tokens=tokens, template=TemplateConfig("chat"))
    prompt = "abcdefghij" * 9
    kept = [tokens.bos_id, *ids_of(prompt + "end")[1 - CONFIG.max_positions :]]
    assert len(kept) == CONFIG.max_positions
    assert chatting.score([prompt], [["end"]])[0][0] == pytest.approx(alone(kept), rel=1e-4)


def test_a_prompt_may_be_messages_and_a_template_that_refuses_them_names_the_prompt(scorer):
    messages = [{"role": "user", "content": "abc "}, {"role": "user", "content": "def"}]
    assert scorer.score([messages], [[" x"]]) == scorer.score(["abc def"], [[" x"]])
    tokens = Tokens(TOKENS._tokenizer, TOKENS.end, {}, "{{ raise_exception('no such role') }}")
    refusing = scorer_on(tokens=tokens, template=TemplateConfig("chat"))
    with pytest.raises(UserError, match=r"^prompt 0: chat template: .*no such role"):
        refusing.score(["a"], [["b"]])
    with pytest.raises(UserError, match=r"^file\.jsonl:3: chat template"):
        refusing.score(["a"], [["b"]], ["file.jsonl:3"])


def test_a_language_model_has_no_rewards():
    with pytest.raises(UserError, match="a language model has no rewards"):
        Scorer(loaded_on((1, 1, 1), LanguageModel))


def test_a_text_without_any_token_has_no_score(scorer):
    assert scorer.score([""], [["", "a"]])[0][0] is None
    assert scorer.score([], []) == []
    assert scorer.score(["a"], [[]]) == [[]]


def test_many_responses_to_one_prompt_go_in_several_calls(scorer, monkeypatch):
    responses = [f" {word}" for word in "abcdefghij"]
    expected = scorer.score(["abc"], [responses])
    monkeypatch.setattr("rbs_jax.score.grids.TOKENS_PER_CALL", 48)
    sizes, compute = [], module._rewards_and_features

    def watched(model, grid):
        sizes.append(grid.suffixes.shape)
        return compute(model, grid)

    monkeypatch.setattr(module, "_rewards_and_features", watched)
    assert scorer.score(["abc"], [responses])[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-5)
    assert len(sizes) > 1
    assert all(suffixes * length <= 64 for _, _, suffixes, length in sizes)


def test_a_reward_that_is_no_number_is_refused():
    loaded = loaded_on((1, 1, 1))
    broken = loaded._replace(model=jax.tree.map(lambda x: x * np.nan, loaded.model))
    with pytest.raises(UserError, match="not finite"):
        Scorer(broken).score(["a"], [["b"]])


def test_the_scorer_of_the_next_checkpoint_compiles_nothing(scorer):
    first = scorer.score(PROMPTS, RESPONSES)
    compiled = module._rewards_and_features._cache_size()
    assert compiled > 0
    loaded = loaded_on((1, 1, 1))
    moved = loaded._replace(model=jax.tree.map(lambda x: x * 1.25, loaded.model))
    assert Scorer(moved).score(PROMPTS, RESPONSES) != first
    assert module._rewards_and_features._cache_size() == compiled


def test_a_caller_may_hold_the_mesh_or_another_one(scorer):
    expected = scorer.score(PROMPTS, RESPONSES)
    for held in (scorer._mesh, loaded_on((2, 2, 2)).model.head[...].sharding.mesh):
        with jax.set_mesh(held):
            assert scorer.score(PROMPTS, RESPONSES) == expected


@pytest.mark.parametrize(
    ("prompt", "responses", "said"),
    [
        ("a", "xyz", "prompt 0: its responses are str, not a list of strings"),
        ([], ["x"], "prompt 0: the prompt is an empty list"),
        ([{"role": "user"}], ["x"], r"prompt 0: the prompt\[0\].content is NoneType"),
        ("\ud800", ["x"], "prompt 0: the prompt holds a lone surrogate"),
    ],
)
def test_what_is_no_text_is_refused(scorer, prompt, responses, said):
    with pytest.raises(UserError, match=said):
        scorer.score([prompt], [responses])
