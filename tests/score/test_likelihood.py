import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.data.template import Template, TemplateConfig
from rbs_jax.data.tokens import PAD, Tokens
from rbs_jax.errors import UserError
from rbs_jax.model.language import LanguageModel, next_token_log_probs
from rbs_jax.score.likelihood import Likelihood
from rbs_jax.shapes import TokenBlocks
from tests.score.tiny import CONFIG, PROMPTS, TOKENS, loaded_on

CHAT = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{{ eos_token }}"
WITH_BOS = Tokens(TOKENS._tokenizer, TOKENS.end, {"bos_token": PAD}, CHAT + "{% endfor %}")
RESPONSES = [[" one", " two words", ""], ["x", "xyz"], [], ["same", "same", "same but longer"]]


def likelihood(template=None, **given):
    return Likelihood(loaded_on((1, 1, 1), LanguageModel, **given), template=template)


def sums(ids, count):
    """The log-probability of the last ids of a text, by the path of training."""
    loaded = loaded_on((1, 1, 1), LanguageModel)
    rows = np.zeros((1, 1, 64), np.int32)
    rows[..., : len(ids)] = ids
    with jax.set_mesh(loaded.model.trunk.embedding[...].sharding.mesh):
        blocks = TokenBlocks(jnp.array(rows), jnp.zeros_like(rows))
        every = np.asarray(jax.jit(next_token_log_probs)(loaded.model, blocks))[0, 0]
    return float(every[len(ids) - 1 - count : len(ids) - 1].sum())


def expected(tokens, start_id, template, prompt, response):
    ids, of_prompt = Template(template, tokens).encode(prompt, response)
    own, prefix = ids[of_prompt:], ids[:of_prompt] or [start_id]
    if not own:
        return None
    return sums([*prefix, *own], len(own)), len(own), sums([start_id, *own], len(own))


@pytest.mark.parametrize(
    ("tokens", "template"),
    [
        (TOKENS, TemplateConfig()),
        (TOKENS, TemplateConfig("human_assistant")),
        (WITH_BOS, TemplateConfig("chat")),
        (WITH_BOS, TemplateConfig("chat", close=False)),
        (WITH_BOS, TemplateConfig()),
    ],
)
def test_each_response_is_as_likely_as_its_tokens_in_the_whole_text(tokens, template):
    start_id = TOKENS.end_id if tokens is TOKENS else tokens.bos_id
    given = {"tokens": tokens, "template": template, "max_positions": 64}
    got = likelihood(**given).score(PROMPTS, RESPONSES)
    for prompt, responses, own in zip(PROMPTS, RESPONSES, got, strict=True):
        assert len(own) == len(responses)
        for response, ours in zip(responses, own, strict=True):
            theirs = expected(tokens, start_id, template, prompt, response)
            assert (ours is None) == (theirs is None), (prompt, response)
            if ours is not None:
                assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4), (prompt, response)
                assert ours.tokens == theirs[1]


def test_what_ends_the_turn_is_the_responses():
    given = {"tokens": WITH_BOS, "max_positions": 64}
    closed, bare = (
        likelihood(template=TemplateConfig("chat", close), **given).score(["abc"], [["def"]])[0][0]
        for close in (True, False)
    )
    assert closed.tokens > bare.tokens


def straddling():
    """A prompt and a response whose border lies inside a token, and one whose does not."""
    for word in TOKENS.decode([[n] for n in range(TOKENS.vocab_size)]):
        for cut in range(1, len(word)):
            prompt, response = word[:cut], word[cut:]
            if Template(TemplateConfig(), TOKENS).encode(prompt, response)[1] == 0:
                return "abc " + prompt, [response, " abc"]
    raise AssertionError


def test_a_token_over_the_border_is_the_responses_and_its_neighbours_keep_their_prompt():
    prompt, responses = straddling()
    counts = [Template(TemplateConfig(), TOKENS).encode(prompt, r)[1] for r in responses]
    assert counts[0] < counts[1]
    got = likelihood().score([prompt], [responses])[0]
    for response, own in zip(responses, got, strict=True):
        theirs = expected(TOKENS, TOKENS.end_id, TemplateConfig(), prompt, response)
        assert own == pytest.approx(theirs, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("prompt", [0, 1, 2, 30])
def test_a_response_needs_room_for_one_token_before_it(prompt):
    longest = CONFIG.max_positions - 1
    fitting = "#" * longest
    ids = TOKENS.encode([fitting])[0]
    assert len(ids) == longest
    fits, none = likelihood().score(["#" * prompt], [[fitting, fitting + "#"]])[0]
    assert none is None
    before = ids[:1] if prompt else [TOKENS.end_id]
    assert fits.total == pytest.approx(sums([*before, *ids], longest), rel=1e-4)
    assert fits.tokens == longest


def test_a_reward_model_has_no_log_probabilities():
    with pytest.raises(UserError, match="a reward model has no log-probabilities"):
        Likelihood(loaded_on((1, 1, 1)))


def test_the_mesh_changes_nothing():
    one = likelihood().score(PROMPTS, RESPONSES)
    many = Likelihood(loaded_on((2, 2, 2), LanguageModel)).score(PROMPTS, RESPONSES)
    for ours, theirs in zip(one, many, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or mine == pytest.approx(other, rel=1e-4, abs=1e-4)


def test_a_log_probability_that_is_no_number_is_refused():
    loaded = loaded_on((1, 1, 1), LanguageModel)
    broken = loaded._replace(model=jax.tree.map(lambda x: x * np.nan, loaded.model))
    with pytest.raises(UserError, match="not finite"):
        Likelihood(broken).score(["a"], [["b"]])
