"""Text to ids and back, by the tokenizers library."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rbs_jax.errors import UserError
from rbs_jax.files import write_atomic, write_json

END_OF_DOCUMENT = "<|endoftext|>"
KNOWN_ENDS = (END_OF_DOCUMENT, "<|end_of_text|>", "</s>", "<eos>")
"""What model families call the end of a text, tried in this order where no config says."""


class Tokens:
    """A Hugging Face tokenizer, and the id that ends a document.

    No special tokens are added and nothing is truncated or padded, whatever the
    tokenizer's file asks for. A special token's name inside a text is plain text:
    no document can forge an end.
    """

    def __init__(self, tokenizer: Tokenizer, end: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.sha256 = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        self._tokenizer = tokenizer
        self.end = end
        end_id = tokenizer.token_to_id(end)
        assert end_id is not None, f"{end} is no token"
        self.end_id: int = end_id
        self.vocab_size: int = max(tokenizer.get_vocab().values()) + 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, in one parallel call."""
        batch = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def encode_from(self, prompt: str, response: str) -> tuple[list[int], int]:
        """The ids of prompt + response as one text, and how many belong to the prompt alone.

        A token that straddles the border counts as the response's.
        """
        encoding = self._tokenizer.encode(prompt + response, add_special_tokens=False)
        of_prompt = 0
        for _, end in encoding.offsets:
            if end > len(prompt):
                break
            of_prompt += 1
        return encoding.ids, of_prompt

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

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, and the end token's name as Hugging Face folders do.

        Raises:
          UserError: a file cannot be written.
        """
        write_atomic(folder / "tokenizer.json", self._tokenizer.to_str(pretty=True))
        write_json(folder / "tokenizer_config.json", {"eos_token": self.end})


def load_tokens(path: Path) -> Tokens:
    """Read a `tokenizer.json`, or the folder that holds one.

    The end of a document is the `eos_token` of the tokenizer_config.json beside
    it, else the first of `KNOWN_ENDS` that the vocabulary has.

    Raises:
      UserError: no such file, not a tokenizer, or no token that ends a document.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{file}: no such tokenizer; give a tokenizer.json, its folder or train:VOCAB"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for a broken file
        raise UserError(f"{file}: not a Hugging Face tokenizer: {error}") from error
    named = _named_end(file.with_name("tokenizer_config.json"))
    candidates = (named,) if named else KNOWN_ENDS
    for end in candidates:
        if tokenizer.token_to_id(end) is not None:
            return Tokens(tokenizer, end)
    raise UserError(
        f"{file}: no token ends a document ({', '.join(candidates)} not in the vocabulary); "
        'name one as "eos_token" in a tokenizer_config.json beside it'
    )


def _named_end(config: Path) -> str | None:
    if not config.is_file():
        return None
    try:
        named = json.loads(config.read_text(encoding="utf-8")).get("eos_token")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{config}: not a JSON object: {error}") from error
    named = named.get("content") if isinstance(named, dict) else named
    if named is not None and not isinstance(named, str):
        raise UserError(f"{config}: eos_token is {type(named).__name__}, not a string")
    return named


def train_tokens(texts: Iterable[str], vocab_size: int) -> Tokens:
    """A byte-level BPE of at most `vocab_size` ids, learnt from texts.

    Raises:
      UserError: fewer ids than the 256 bytes and the end of a document need.
    """
    smallest = 256 + 1
    if vocab_size < smallest:
        raise UserError(f"train:{vocab_size}: a byte-level tokenizer needs at least {smallest} ids")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokens(tokenizer, END_OF_DOCUMENT)
