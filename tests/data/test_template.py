from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from rbs_jax.data.template import Template, TemplateConfig
from rbs_jax.data.tokens import END_OF_DOCUMENT, Tokens, train_tokens
from rbs_jax.errors import UserError

BOS, EOT = "<|begin_of_text|>", "<|eot_id|>"
SPECIAL = [BOS, EOT, "<|start_header_id|>", "<|end_header_id|>", "<|im_start|>", "<|im_end|>"]

LLAMA = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """\
{% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
  {% endif %}
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}

"""
EVERYTHING = """\
{%- set ns = namespace(turns=0) -%}
{% if tools is none and documents is none %}no tools {% endif %}
{{ nothing_of_the_kind }}{{ sep_token }}{{ eos_token }}{{ strftime_now('%Y') }}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% if ns.turns > 3 %}{% break %}{% endif %}
    {% set ns.turns = ns.turns + 1 %}
    {% set turn = 'outer' %}
{{ dict(role=message.role) | tojson }} {{ dict.fromkeys(['z', 'a']) | tojson(sort_keys=true) }}
    {% generation %}
{% set turn = 'inner' %}
<b>{{ message | tojson }}&{{ message.content }}</b> {{ turn }} {{ loop.index }}
    {% endgeneration %}
{{ turn }} {{ [message.content] | tojson(indent=2, ensure_ascii=true, separators=(' ,', ' :')) }}
{% endfor %}
{% if add_generation_prompt %}{{ ns.turns }}assistant: {% endif %}"""


def made_tokens(chat_template=None):
    """A byte-level BPE with the marks of chats, which puts BOS in front of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Human: hello hello\n\nAssistant: hello world\n\n"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 0)]
    )
    return Tokens(tokenizer, EOT, {"bos_token": BOS}, chat_template)


PLAIN_TOKENS = train_tokens(["hello hello hello world, this is hello"], 280)
TOKENS = made_tokens()


def template(form, close=True, tokens=PLAIN_TOKENS):
    return Template(TemplateConfig(form, close), tokens)


def chat(source, close=True):
    return template("chat", close, made_tokens(source))


def turns(*contents, system=None):
    """Messages of user and assistant in turn."""
    named = [
        {"role": ("user", "assistant")[at % 2], "content": content}
        for at, content in enumerate(contents)
    ]
    return [{"role": "system", "content": system}, *named] if system is not None else named


@pytest.mark.parametrize("close", [True, False])
def test_the_plain_form_adds_nothing(close):
    plain = template("plain", close, TOKENS)
    assert plain.render(" a\n", " b\n") == (" a\n b\n", 3)
    assert plain.render("", "") == ("", 0)
    assert plain.render(turns("a", "b ", "{{ c }}", system="s"), "d") == ("sab {{ c }}d", 11)
    assert plain.encode("hello", " world")[0] == TOKENS.encode(["hello world"])[0]


def test_human_and_assistant_take_turns():
    form = template("human_assistant")
    assert form.render("q", "r") == ("\n\nHuman: q\n\nAssistant: r\n\n", 23)
    assert form.render("", "") == ("\n\nHuman: \n\nAssistant: \n\n", 22)
    text = "be brief\n\nHuman:  q\n\n\nAssistant: r\n\nHuman: q2\n\nAssistant: r2 \n\n"
    messages = turns(" q\n", "r", "q2", system="be brief")
    assert form.render(messages, "r2 ") == (text, text.index("r2 "))


def test_an_open_human_assistant_text_ends_with_the_response():
    form = template("human_assistant", close=False)
    assert form.render("q", "r ") == ("\n\nHuman: q\n\nAssistant: r ", 23)
    assert form.render(turns("q", system="s"), "r") == ("s\n\nHuman: q\n\nAssistant: r", 24)


def test_human_assistant_starts_with_bos_where_the_tokenizer_does():
    form = template("human_assistant", tokens=TOKENS)
    text = BOS + "\n\nHuman: q\n\nAssistant: r\n\n"
    assert form.render("q", "r") == (text, text.index("r\n"))
    assert form.encode("q", "r")[0][:2] == [0, *TOKENS.encode(["\n"])[0]]
    tokens = Tokens(PLAIN_TOKENS._tokenizer, END_OF_DOCUMENT, {"bos_token": END_OF_DOCUMENT})
    assert template("human_assistant", tokens=tokens).render("q", "r")[0].startswith("\n\nHuman")


@pytest.mark.parametrize("messages", [[*turns("q"), {"role": "tool", "content": "t"}], []])
def test_human_assistant_refuses_other_messages(messages):
    with pytest.raises(UserError, match=r"^human_assistant template: cannot render: "):
        template("human_assistant").render(messages, "r")


def test_human_assistant_takes_a_system_message_only_first():
    messages = [*turns("q"), {"role": "system", "content": "s"}]
    with pytest.raises(UserError, match="roles are user and assistant, at first also system"):
        template("human_assistant").render(messages, "r")


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("form", ["plain", "human_assistant"])
def test_the_ids_are_those_of_the_one_text(form, close):
    made = template(form, close, TOKENS)
    text, start = made.render("hello", f"hello{EOT} world")
    ids, of_prompt = made.encode("hello", f"hello{EOT} world")
    encoding = TOKENS.encode_rendered(text)
    assert ids == encoding.ids
    assert SPECIAL.index(EOT) in ids
    assert of_prompt == sum(end <= start for _, end in encoding.offsets)
    assert 0 < of_prompt < len(ids)


def test_a_token_across_the_border_is_the_responses():
    plain = template("plain")
    whole, border = plain.encode("hel", "lo world"), plain.encode("hello", " world")
    assert whole[0] == border[0]
    assert (whole[1], border[1]) == (0, 1)


def test_a_token_whose_space_is_cut_off_is_still_across_the_border():
    vocabulary = {"x": 0, "Ġ": 1, "xĠ": 2, "y": 3, "</s>": 4}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("x", "Ġ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    assert template("plain", tokens=Tokens(tokenizer, "</s>")).encode("x", " y") == ([2, 3], 0)


@pytest.mark.parametrize("prompt", ["日本", "é", "🙂"])
def test_characters_of_many_bytes_are_counted_whole(prompt):
    assert template("plain").encode(prompt, "x")[1] == len(prompt.encode())


PIECES = st.sampled_from(["h", "e", "l", "o", " ", "hello", "é", "日", "\u0301", END_OF_DOCUMENT])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_wherever_a_text_is_cut_its_ids_are_the_same_and_the_prompts_grow(text):
    plain = template("plain")
    cuts = [plain.encode(text[:at], text[at:]) for at in range(len(text) + 1)]
    counts = [of_prompt for _, of_prompt in cuts]
    assert all(ids == PLAIN_TOKENS.encode_rendered(text).ids for ids, _ in cuts)
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, len(cuts[0][0]))


@given(prompt=st.text("helo wrd"), response=st.text("helo wrd"))
def test_the_prompt_has_as_many_ids_as_end_within_it(prompt, response):
    ids, of_prompt = template("plain").encode(prompt, response)
    ends = [len(text) for text in PLAIN_TOKENS.decode([ids[: n + 1] for n in range(len(ids))])]
    assert of_prompt == sum(end <= len(prompt) for end in ends)


def test_a_response_that_the_template_strips_starts_at_its_first_character():
    text, start = chat(LLAMA).render(" q ", " r ")
    assert text[start:] == "r" + EOT
    assert text[:start].endswith(f"q{EOT}<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_what_a_template_writes_before_answers_only_is_not_the_response():
    source = (
        "{{ messages[0].content }}|"
        "{% if add_generation_prompt %}think{% else %}{{ messages[1].content }}{% endif %}"
    )
    assert chat(source).render("q", "r") == ("q|r", 2)
    assert chat(source, close=False).render("q", "r") == ("q|thinkr", 7)


@pytest.mark.parametrize("close", [True, False])
def test_no_text_starts_with_two_bos(close):
    plain = template("plain", close, TOKENS)
    hello = TOKENS.encode_rendered("hello").ids
    for count in (1, 2, 3):
        assert plain.encode(BOS * count + "hello", "hello") == ([0, *hello, *hello], 1 + len(hello))
        assert plain.encode("", BOS * count) == ([0], 0)
    assert plain.encode(BOS + "hello" + BOS, BOS)[0] == [0, *hello, 0, 0]
    rendered = Template(TemplateConfig("chat", close), made_tokens("{{ bos_token }}" + LLAMA))
    ids, of_prompt = rendered.encode("q", "r")
    assert (ids, of_prompt) == chat(LLAMA, close).encode("q", "r")
    assert rendered.wrapping() == chat(LLAMA, close).wrapping()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(messages[0]) }}",
        "{{ messages[0].update(a='b') }}",
        "{{ dict.update(messages[0], {'content': 'x'}) }}",
        "{{ dict.mro() }}",
        "{% set ns = namespace(__html__=1) %}",
        "{% set ns = namespace({'_a': 1}) %}",
        "{% set ns = namespace() %}{% set ns._a = 1 %}",
        "{{ nothing.of_the_kind }}",
        "{{ 1 / 0 }}",
        "{{ raise_exception('only\n\n user') }}",
    ],
)
def test_a_template_that_fails_or_reaches_too_far_is_refused(source):
    with pytest.raises(UserError, match=r"^chat template: cannot render: .") as refused:
        chat(source + "{{ messages[0].content }}").encode("q", "r")
    assert "\n" not in str(refused.value)


def test_a_wrong_order_of_roles_is_refused_in_the_templates_words():
    source = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    assert chat(source).render(turns("a", "b", "c"), "d")[0] == "abcd"
    with pytest.raises(UserError, match=r"^chat template: cannot render: Roles must alternate$"):
        chat(source).render(turns("a", "b"), "d")


@pytest.mark.parametrize("source", ["ab\n{{ x | }}", "ab\n{{ x | no_such_filter }}", "\n{% if %}"])
def test_a_template_that_is_no_jinja_is_refused_with_its_line(source):
    with pytest.raises(UserError, match=r"^chat template, line 2: ."):
        chat(source)


def test_a_loop_control_outside_a_loop_is_refused():
    with pytest.raises(UserError, match=r"^chat template, line .* outside loop"):
        chat("{% break %}")


def test_a_chat_needs_a_chat_template():
    with pytest.raises(UserError, match="form chat: the tokenizer has no chat template"):
        template("chat")


def test_the_wrapping_of_each_form():
    def ids(*texts):
        return tuple(TOKENS.encode_rendered(text).ids for text in texts)

    def wrapping(form, close=True):
        return template(form, close, TOKENS).wrapping()

    assert wrapping("plain") == wrapping("plain", close=False) == ([], [], [])
    parts = (BOS + "\n\nHuman: ", "\n\nAssistant: ", "\n\n")
    assert wrapping("human_assistant") == ids(*parts)
    assert wrapping("human_assistant", close=False) == ids(*parts[:2], "")
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    parts = (BOS + head.format("user"), EOT + head.format("assistant"), EOT)
    assert chat(LLAMA).wrapping() == ids(*parts)
    assert chat(LLAMA, close=False).wrapping() == ids(*parts[:2], "")


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ m.content * 2 }}{% endfor %}",
        "{{ messages[-1].content }}",
        "{% for m in messages | reverse %}{{ m.content }}{% endfor %}",
        "{{ messages[0].content * 2 }}",
        "",
    ],
)
def test_a_template_that_does_not_hold_both_texts_has_no_wrapping(source):
    with pytest.raises(UserError, match=r"^chat template: does not hold a prompt and its response"):
        chat(source).wrapping()


AWKWARD = st.sampled_from(
    [
        "{{ a }}",
        "{% b %}",
        "<|im_end|>",
        BOS,
        "\0",
        " ",
        "\n\n",
        "\r",
        "e\u0301",
        "日本",
        "👩‍🚀",
        "</b>",
    ]
)
TEXTS = st.lists(AWKWARD | st.text(st.characters(codec="utf-8"), max_size=4), max_size=4)
CONTENT = TEXTS.map("".join)
MESSAGES = st.builds(
    lambda contents, system: turns(*contents[: (len(contents) - 1) // 2 * 2 + 1], system=system),
    st.lists(CONTENT, min_size=1, max_size=5),
    st.none() | CONTENT,
)


@pytest.fixture(scope="module", params=["LLAMA", "QWEN", "EVERYTHING", "plain", "human_assistant"])
def peer(request, tmp_path_factory):
    """A template of ours, closed and open, and Hugging Face's own tokenizer with its source."""
    transformers = pytest.importorskip("transformers")
    form = request.param if request.param.islower() else "chat"
    tokens = made_tokens(None if request.param.islower() else globals()[request.param])
    ours = {close: template(form, close, tokens) for close in (True, False)}
    folder = tmp_path_factory.mktemp("peer")
    tokens.save(folder)
    (folder / "chat_template.jinja").write_text(ours[True].source)
    return ours, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.torch
@given(messages=MESSAGES, response=CONTENT)
def test_texts_and_ids_are_those_of_transformers(peer, messages, response):
    ours, theirs = peer
    answered = [*messages, {"role": "assistant", "content": response}]
    closed = theirs.apply_chat_template(answered, tokenize=False)
    asked = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for close, expected in ((True, closed), (False, asked + response)):
        text, start = ours[close].render(messages, response)
        assert text == expected
        assert text[:start] == asked[:start]
        ids, of_prompt = ours[close].encode(messages, response)
        served = theirs(expected, add_special_tokens=False).input_ids
        while served[:2] == [0, 0]:
            served = served[1:]
        assert ids == served
        assert 0 <= of_prompt <= len(ids)


def test_the_template_that_uses_everything_does():
    text, _ = chat(EVERYTHING).render(turns("q", "<r>", system="s"), "é")
    assert f"no tools {EOT}{datetime.now():%Y}\n" in text
    assert '<b>{"role": "assistant", "content": "<r>"}&<r></b> inner 3\nouter' in text
    assert '"a": null, "z": null' in text
    assert '"\\u00e9"\n]' in text


def test_what_is_around_pieces_of_a_corpus_is_what_a_whole_text_has_there():
    """Also where the tokenizer writes a space before a text's first word, and only there."""
    texts = ["Human: Assistant: a b c d", "alpha beta gamma"] * 9
    spaced = Tokenizer(models.BPE())
    spaced.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(special_tokens=["</s>"], show_progress=False)
    spaced.train_from_iterator([*texts, "\n\nHuman: x\n\nAssistant: y\n\n"], trainer)
    template = Template(TemplateConfig("human_assistant"), Tokens(spaced, "</s>"))
    before, between, after = template.wrapping()
    ids, _ = template.encode("a", "b")
    # The space at the end of a part goes with the word behind it: so "a" and "b" are one id each.
    assert ids == [*before[:-1], ids[len(before) - 1], *between[:-1], ids[-1 - len(after)], *after]
