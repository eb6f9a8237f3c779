import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rbs_jax.data.tokens import END_OF_DOCUMENT, KNOWN_ENDS, load_tokens, train_tokens
from rbs_jax.errors import UserError

TOKENS = train_tokens(["hello hello hello world, this is hello"], 280)


def whole_words(*words):
    tokenizer = Tokenizer(models.WordLevel({word: id_ for id_, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


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
    assert tokens.encode_from("one ", "two one two") == ([0, 1, 0, 1], 1)
    assert tokens.sha256 == load_tokens(tmp_path / "plain.json").sha256


def test_special_tokens_of_a_post_processor_never_appear(tmp_path):
    tokenizer = whole_words("one", "two", "<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("one two").ids == [2, 0, 1, 3]
    tokens = load_tokens(tmp_path)
    assert tokens.encode(["one two"]) == [[0, 1]]
    assert tokens.encode_from("one ", "two") == ([0, 1], 1)


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


def test_a_broken_config_beside_it_is_refused(tmp_path):
    TOKENS.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UserError, match=r"tokenizer_config\.json: not a JSON object"):
        load_tokens(tmp_path)


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json: no such tokenizer"):
        load_tokens(tmp_path)


def test_a_vocabulary_below_the_bytes_and_the_end_is_refused():
    assert train_tokens(["hello"], 257).vocab_size == 257
    with pytest.raises(UserError, match="train:256: a byte-level tokenizer needs at least 257"):
        train_tokens(["hello"], 256)


@given(prompt=st.text("helo wrd"), response=st.text("helo wrd"))
def test_the_prompt_has_as_many_ids_as_end_within_it(prompt, response):
    ids, of_prompt = TOKENS.encode_from(prompt, response)
    assert [ids] == TOKENS.encode([prompt + response])
    ends = [len(text) for text in TOKENS.decode([ids[: n + 1] for n in range(len(ids))])]
    assert of_prompt == sum(end <= len(prompt) for end in ends)


def test_a_token_across_the_border_is_the_responses():
    whole, border = TOKENS.encode_from("hel", "lo world"), TOKENS.encode_from("hello", " world")
    assert whole[0] == border[0]
    assert (whole[1], border[1]) == (0, 1)


@pytest.mark.parametrize("prompt", ["日本", "é", "🙂"])
def test_characters_of_many_bytes_are_counted_whole(prompt):
    assert TOKENS.encode_from(prompt, "x")[1] == len(prompt.encode())
