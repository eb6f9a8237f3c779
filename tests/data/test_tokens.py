import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from rbs_jax.data.tokens import (
    END_OF_DOCUMENT,
    KNOWN_ENDS,
    PAD,
    Tokens,
    load_tokens,
    train_tokens,
)
from rbs_jax.errors import UserError

TOKENS = train_tokens(["hello hello hello world, this is hello"], 280)


def whole_words(*words):
    tokenizer = Tokenizer(models.WordLevel({word: id_ for id_, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def with_start(*words):
    """A tokenizer whose post-processor puts <s> around a text."""
    tokenizer = whole_words("one", "two", "<s>", "</s>", *words)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return tokenizer


def folder_of(path, config, **files):
    """A tokenizer folder with a config and other files, named without their suffix .jinja."""
    whole_words("one", "two", "<s>", END_OF_DOCUMENT).save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    for name, text in files.items():
        (path / f"{name}.jinja").write_bytes(text.encode("latin-1"))
    return path


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=4))
def test_every_text_survives_the_way_to_ids_and_back(texts):
    ids = TOKENS.encode(texts)
    assert TOKENS.decode(ids) == texts
    assert all(0 <= token < TOKENS.vocab_size for row in ids for token in row)


def test_a_saved_tokenizer_reads_back_equal(tmp_path):
    TOKENS.save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        read = load_tokens(path)
        assert read.sha256 == TOKENS.sha256
        assert (read.end, read.end_id) == (END_OF_DOCUMENT, TOKENS.end_id)
        assert read.encode(["hello world"]) == TOKENS.encode(["hello world"])
        assert read.special_tokens == {"eos_token": END_OF_DOCUMENT, "pad_token": PAD}
        assert read.chat_template is None


@pytest.mark.parametrize("end", KNOWN_ENDS)
def test_known_ends_of_documents_are_found(tmp_path, end):
    whole_words("one", "two", end).save(str(tmp_path / "tokenizer.json"))
    tokens = load_tokens(tmp_path)
    assert (tokens.end, tokens.end_id, tokens.vocab_size) == (end, 2, 3)


@pytest.mark.parametrize("named", ["two", {"content": "two", "lstrip": False}])
def test_the_config_beside_it_names_the_end(tmp_path, named):
    whole_words("one", "two", END_OF_DOCUMENT).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
    assert load_tokens(tmp_path).end_id == 1


def test_truncation_and_padding_in_the_file_have_no_effect(tmp_path):
    tokenizer = whole_words("one", "two", END_OF_DOCUMENT)
    tokenizer.save(str(tmp_path / "plain.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8, pad_id=2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens = load_tokens(tmp_path)
    assert tokens.encode(["one", "one two one two"]) == [[0], [0, 1, 0, 1]]
    assert tokens.encode_rendered("one two one two").ids == [0, 1, 0, 1]
    assert tokens.sha256 == load_tokens(tmp_path / "plain.json").sha256


def test_special_tokens_of_a_post_processor_never_appear(tmp_path):
    tokenizer = with_start()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("one two").ids == [2, 0, 1, 3]
    tokens = load_tokens(tmp_path)
    assert tokens.encode(["one two"]) == [[0, 1]]
    assert tokens.encode_rendered("one two").ids == [0, 1]


@pytest.mark.parametrize("config", [None, '{"eos_token": "gone"}'])
def test_a_tokenizer_without_an_end_token_is_refused(tmp_path, config):
    words = ["one", "two"] if config is None else ["one", END_OF_DOCUMENT]
    whole_words(*words).save(str(tmp_path / "tokenizer.json"))
    if config:
        (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(UserError, match=r"tokenizer\.json: no token ends a document"):
        load_tokens(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"model":\n'])
def test_a_broken_tokenizer_is_refused(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer\.json: not a Hugging Face tokenizer"):
        load_tokens(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null", "", "{", "[" * 100_000])
def test_a_broken_config_beside_it_is_refused(tmp_path, text):
    TOKENS.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer_config\.json: not a JSON object"):
        load_tokens(tmp_path)


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json: no such tokenizer"):
        load_tokens(tmp_path)


def test_a_vocabulary_below_the_bytes_the_end_and_padding_is_refused():
    assert train_tokens(["hello"], 258).vocab_size == 258
    with pytest.raises(UserError, match="train:257: a byte-level tokenizer needs at least 258"):
        train_tokens(["hello"], 257)


def test_padding_has_an_id_that_is_no_end():
    assert [TOKENS.encode_rendered(END_OF_DOCUMENT).ids] == [[0]]
    assert [TOKENS.encode_rendered(PAD).ids] == [[1]]
    assert (TOKENS.end_id, TOKENS.special_tokens["pad_token"]) == (0, PAD)


def test_the_names_of_special_tokens_are_plain_text_but_in_a_rendered_one():
    text = f"hello{END_OF_DOCUMENT}hello"
    (hello,) = TOKENS.encode(["hello"])
    rendered = TOKENS.encode_rendered(text)
    assert rendered.ids == [*hello, TOKENS.end_id, *hello]
    assert rendered.offsets[len(hello)] == (5, 5 + len(END_OF_DOCUMENT))
    assert TOKENS.end_id not in TOKENS.encode([text])[0]
    assert TOKENS.decode(TOKENS.encode([text])) == [text]


def test_a_special_token_that_only_the_config_names_is_one():
    tokens = Tokens(whole_words("<s>", "one", "</s>"), "</s>", {"bos_token": "<s>"})
    assert tokens.encode_rendered("<s>one</s>").ids == [0, 1, 2]


def test_a_special_token_outside_the_vocabulary_gets_no_id():
    tokens = Tokens(TOKENS._tokenizer, END_OF_DOCUMENT, {"bos_token": "<s>"})
    assert [tokens.encode_rendered("<s>hello").ids] == TOKENS.encode(["<s>hello"])
    assert (tokens.bos_id, tokens.adds_bos) == (None, False)


def test_what_the_file_says_of_a_special_token_stays():
    tokenizer = whole_words("<s>", "one", "</s>")
    tokenizer.add_special_tokens([AddedToken("</s>", lstrip=True, special=True)])
    tokens = Tokens(tokenizer, "</s>")
    assert tokens.encode_rendered("one  </s>").offsets == [(0, 3), (3, 9)]


def test_the_special_tokens_of_a_config_are_kept(tmp_path):
    config = {
        "bos_token": {"content": "<s>", "lstrip": False},
        "eos_token": "two",
        "pad_token": None,
        "unk_token": "",
        "mask_token": "one",
        "additional_special_tokens": ["one"],
        "other_token": "one",
    }
    tokens = load_tokens(folder_of(tmp_path, config))
    assert tokens.special_tokens == {"bos_token": "<s>", "eos_token": "two", "mask_token": "one"}
    assert tokens.bos_id == 2


def test_the_end_is_the_eos_token_where_no_config_says(tmp_path):
    tokens = load_tokens(folder_of(tmp_path, {"bos_token": "<s>"}))
    assert tokens.special_tokens == {"bos_token": "<s>", "eos_token": END_OF_DOCUMENT}


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "cls_token"])
@pytest.mark.parametrize("value", [3, ["<s>"], {"content": 3}])
def test_a_special_token_that_is_no_string_is_refused(tmp_path, name, value):
    folder = folder_of(tmp_path, {name: value})
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: {name} is .*, not a string"):
        load_tokens(folder)


def test_who_puts_the_bos_token_in_front():
    named = {"bos_token": "<s>"}
    assert Tokens(with_start("a"), "</s>", named).adds_bos
    assert not Tokens(with_start("a"), "</s>").adds_bos
    assert not Tokens(whole_words("a", "<s>", "</s>"), "</s>", named).adds_bos
    assert not Tokens(with_start("a"), "</s>", {"bos_token": "one"}).adds_bos


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (None, None),
        ("of config", "of config"),
        ([{"name": "a", "template": "of a"}, {"name": "default", "template": "it"}], "it"),
    ],
)
def test_the_chat_template_of_a_config_is_read(tmp_path, template, found):
    folder = folder_of(tmp_path, {"chat_template": template})
    assert load_tokens(folder).chat_template == found
    folder = folder_of(tmp_path, {"chat_template": template}, chat_template="of file")
    assert load_tokens(folder).chat_template == "of file"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (3, "chat_template is int, not a string"),
        ({"default": "it"}, "chat_template is dict, not a string"),
        ([{"name": "default", "template": 3}], "chat_template is int, not a string"),
        ([], "no chat_template is called 'default'; there: none"),
        (
            [{"name": "a", "template": ""}, {"name": "b", "template": ""}],
            "no chat_template is called 'default'; there: 'a', 'b'",
        ),
        (["it"], "chat_template is no list of names and templates"),
        ([{"name": "default"}], "chat_template is no list of names and templates"),
        ([{"name": [], "template": ""}], "chat_template is no list of names and templates"),
    ],
)
def test_a_chat_template_that_cannot_be_read_is_refused(tmp_path, template, message):
    folder = folder_of(tmp_path, {"chat_template": template})
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: {message}$"):
        load_tokens(folder)


def test_a_chat_template_that_is_not_utf8_is_refused(tmp_path):
    folder = folder_of(tmp_path, {}, chat_template="ab\xe9")
    with pytest.raises(UserError, match=r"chat_template\.jinja: not UTF-8 at byte 2$"):
        load_tokens(folder)


def full_tokens():
    named = {"bos_token": "<s>", "pad_token": "two"}
    return Tokens(with_start(), "</s>", named, "{{ bos_token }}日\n\n")


def test_a_saved_tokenizer_keeps_all_that_its_folder_said(tmp_path):
    tokens = full_tokens()
    tokens.save(tmp_path)
    read = load_tokens(tmp_path)
    assert read.sha256 == tokens.sha256
    assert read.special_tokens == tokens.special_tokens
    assert read.chat_template == tokens.chat_template
    assert read.adds_bos
    TOKENS.save(tmp_path)  # the other one's chat template must not stay behind
    assert load_tokens(tmp_path).chat_template is None


@pytest.mark.torch
def test_hugging_face_loads_a_saved_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    for tokens in (full_tokens(), TOKENS):
        tokens.save(tmp_path)
        peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert peer.special_tokens_map == tokens.special_tokens
        assert peer.chat_template == tokens.chat_template
        assert peer.clean_up_tokenization_spaces is False
        assert len(peer) == tokens.vocab_size
        # Older releases need the class's name where no model lies beside the tokenizer.
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    text = "hello , world !" + END_OF_DOCUMENT
    assert peer(text).input_ids == TOKENS.encode_rendered(text).ids
    assert peer.decode(peer(text).input_ids) == text
