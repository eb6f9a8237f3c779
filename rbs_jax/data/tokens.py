"""Text to ids and back, by the tokenizers library."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from rbs_jax.errors import UserError
from rbs_jax.files import write_atomic, write_json, writing
from rbs_jax.remote import is_remote
from rbs_jax.storage import download, exists

END_OF_DOCUMENT = "<|endoftext|>"
PAD = "<|pad|>"
"""What a trained tokenizer fills up with: an id of its own, so that no padding reads as an end."""
KNOWN_PADS = (
    *(PAD, "<pad>", "[PAD]", "<|finetune_right_pad_id|>"),
    *("<|fim_pad|>", "<|endoftext|>", "<|reserved_special_token_0|>"),
)
"""What model families call padding, or never put into a text."""
KNOWN_ENDS = (END_OF_DOCUMENT, "<|end_of_text|>", "</s>", "<eos>")
"""What model families call the end of a text, tried in this order where no config says."""
SPECIAL_TOKENS = (
    *("bos_token", "eos_token", "unk_token"),
    *("sep_token", "pad_token", "cls_token", "mask_token"),
)
"""The parts that a Hugging Face folder gives tokens to."""
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What a folder may hold of a tokenizer; the first it must."""
NONE: Mapping[str, str] = MappingProxyType({})


class Tokens:
    """A Hugging Face tokenizer, the id that ends a document, and what else its folder says.

    No special tokens are added and nothing is truncated or padded, whatever the
    tokenizer's file asks for. A special token's name inside a text is plain text,
    so no document can forge an end, except in `encode_rendered`.

    Attributes:
      special_tokens: names such as "bos_token" to tokens; "eos_token" is always the end.
      chat_template: the jinja template that makes one text of messages.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        end: str,
        special_tokens: Mapping[str, str] = NONE,
        chat_template: str | None = None,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.sha256 = hashlib.sha256(_bare(tokenizer).to_str().encode()).hexdigest()
        self._tokenizer = tokenizer
        self.end = end
        end_id = tokenizer.token_to_id(end)
        assert end_id is not None, f"{end} is no token"
        self.end_id: int = end_id
        self.vocab_size: int = max(tokenizer.get_vocab().values()) + 1
        self.special_tokens: dict[str, str] = {**special_tokens, "eos_token": end}
        self.chat_template = chat_template

    @property
    def bos_id(self) -> int | None:
        """The id of the bos_token, if there is one."""
        return self.id_of("bos_token")

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer's own post-processor puts the bos_token in front of a text."""
        return self._tokenizer.encode("").ids[:1] == [self.bos_id]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, in one parallel call."""
        batch = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def encode_rendered(self, text: str) -> Encoding:
        """The ids of a text made by a template, and where in it they stand.

        Special tokens' names in it are special tokens, as they are to a server.
        """
        return self._as_served.encode(text, add_special_tokens=False)

    @cached_property
    def _as_served(self) -> Tokenizer:
        tokenizer = _bare(self._tokenizer)
        tokenizer.encode_special_tokens = False
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        for token in self.special_tokens.values():
            if token not in known and tokenizer.token_to_id(token) is not None:
                tokenizer.add_special_tokens([token])
        return tokenizer

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, without special tokens."""
        return self._tokenizer.decode_batch([list(row) for row in ids])

    def pieces(self) -> list[str]:
        """What each id adds to a text that it continues; special tokens add nothing."""
        # Some decoders drop a text's leading space, so each id is decoded behind a letter.
        (start,) = self.encode(["a"])
        (before,) = self.decode([start])
        texts = self.decode([[*start, token] for token in range(self.vocab_size)])
        return [text[len(before) :] for text in texts]

    def serving(self, chat_template: str | None) -> "Tokens":
        """What a served model ships: nothing is ever added around a text, and padding is no end.

        A template that wants a bos_token writes it, so a server cannot add a second. The
        padding token is the tokenizer's own, else one of a known name, else a new one,
        whose id may be beyond the rows of the embedding table.
        """
        tokenizer = _bare(self._tokenizer)
        vocabulary = tokenizer.get_vocab()
        candidates = [self.special_tokens.get("pad_token"), *KNOWN_PADS]
        known = (pad for pad in candidates if pad in vocabulary and pad != self.end)
        pad = next(known, None)
        if pad is None:
            pad = PAD
            tokenizer.add_special_tokens([pad])
        return Tokens(tokenizer, self.end, {**self.special_tokens, "pad_token": pad}, chat_template)

    def id_of(self, part: str) -> int | None:
        """The id of a special token by its part, such as "pad_token"; None without one."""
        token = self.special_tokens.get(part)
        return None if token is None else self._tokenizer.token_to_id(token)

    def save(self, folder: Path) -> None:
        """Write a folder that `load_tokens` and Hugging Face's AutoTokenizer read.

        Raises:
          UserError: a file cannot be written.
        """
        write_atomic(folder / "tokenizer.json", self._tokenizer.to_str(pretty=True))
        form = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        write_json(
            folder / "tokenizer_config.json", form | dict(sorted(self.special_tokens.items()))
        )
        template = folder / "chat_template.jinja"
        if self.chat_template is not None:
            write_atomic(template, self.chat_template)
        else:
            with writing(template):
                template.unlink(missing_ok=True)  # one of another tokenizer, saved here before


def _bare(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that adds nothing around a text; post-processors also move the borders of tokens."""
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.post_processor = None
    return bare


def load_tokens(source: Path | str) -> Tokens:
    """Read a `tokenizer.json`, or the folder that holds one, by path or URL.

    The end of a document is the `eos_token` of the tokenizer_config.json beside
    it, else the first of `KNOWN_ENDS` that the vocabulary has.

    Raises:
      UserError: no such file, not a tokenizer, no token that ends a document, or
        a config or chat template that cannot be read.
    """
    if is_remote(str(source)):
        return _load_remote(str(source))
    path = Path(source)
    file = path / FILES[0] if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{file}: no such tokenizer; give a tokenizer.json, its folder or train:VOCAB"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for a broken file
        raise UserError(f"{file}: not a Hugging Face tokenizer: {error}") from error
    config = file.with_name("tokenizer_config.json")
    settings = _read_config(config)
    special_tokens = _special_tokens(settings, config)
    named = special_tokens.get("eos_token")
    candidates = (named,) if named else KNOWN_ENDS
    for end in candidates:
        if tokenizer.token_to_id(end) is not None:
            return Tokens(tokenizer, end, special_tokens, _chat_template(settings, config))
    raise UserError(
        f"{file}: no token ends a document ({', '.join(candidates)} not in the vocabulary); "
        'name one as "eos_token" in a tokenizer_config.json beside it'
    )


def _load_remote(url: str) -> Tokens:
    folder = url.rstrip("/").removesuffix(f"/{FILES[0]}")
    with tempfile.TemporaryDirectory() as local:
        there = [name for name in FILES if exists(f"{folder}/{name}")]
        if FILES[0] not in there:
            raise UserError(f"{folder}/{FILES[0]}: no such tokenizer")
        for name in there:
            download(f"{folder}/{name}", Path(local) / name)
        try:
            return load_tokens(local)
        except UserError as error:
            raise UserError(str(error).replace(local, folder)) from error


def _read_config(config: Path) -> dict[str, Any]:
    if not config.is_file():
        return {}
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{config}: not a JSON object: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{config}: not a JSON object: {type(settings).__name__}")
    return settings


def _special_tokens(settings: dict[str, Any], config: Path) -> dict[str, str]:
    found = {}
    for name in SPECIAL_TOKENS:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None and not isinstance(token, str):
            raise UserError(f"{config}: {name} is {type(token).__name__}, not a string")
        if token:
            found[name] = token
    return found


def _chat_template(settings: dict[str, Any], config: Path) -> str | None:
    """What chat_template.jinja says, else what the config says: one template or several by name."""
    beside = config.with_name("chat_template.jinja")
    if beside.is_file():
        try:
            return beside.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{beside}: not UTF-8 at byte {error.start}") from error
    template = settings.get("chat_template")
    if isinstance(template, list):
        try:
            named = {entry["name"]: entry["template"] for entry in template}
        except (TypeError, KeyError) as error:
            raise UserError(f"{config}: chat_template is no list of names and templates") from error
        if "default" not in named:
            there = ", ".join(map(repr, named)) or "none"
            raise UserError(f"{config}: no chat_template is called 'default'; there: {there}")
        template = named["default"]
    if template is not None and not isinstance(template, str):
        raise UserError(f"{config}: chat_template is {type(template).__name__}, not a string")
    return template


def train_tokens(texts: Iterable[str], vocab_size: int) -> Tokens:
    """A byte-level BPE of at most `vocab_size` ids, learnt from texts.

    Raises:
      UserError: fewer ids than the 256 bytes, the end of a document and padding need.
    """
    smallest = 256 + 2
    if vocab_size < smallest:
        raise UserError(f"train:{vocab_size}: a byte-level tokenizer needs at least {smallest} ids")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_DOCUMENT, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokens(tokenizer, END_OF_DOCUMENT, {"pad_token": PAD})
