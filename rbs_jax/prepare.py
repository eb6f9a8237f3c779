"""`rbs prepare`: text files to a corpus."""

from collections.abc import Sequence
from pathlib import Path

from rbs_jax.data.corpus import refuse_existing, write_corpus
from rbs_jax.data.manifest import Manifest
from rbs_jax.data.sources import find_files, read_documents
from rbs_jax.data.tokens import Tokens, load_tokens, train_tokens
from rbs_jax.errors import UserError

TRAIN = "train:"


def prepare(
    sources: Sequence[str], tokenizer: str, out: Path, block_length: int, text_field: str
) -> Manifest:
    """Tokenise, pack and write the documents of `sources` as a corpus.

    Args:
      sources: .jsonl, .jsonl.gz and .txt files, folders of them, globs.
      tokenizer: a tokenizer.json, the folder that holds one (a corpus or a run
        does), or train:VOCAB to learn VOCAB ids from the sources.
      out: the corpus's folder; must not exist.
      block_length: ids of a block, at least prefix + suffix [tokens].
      text_field: the .jsonl field that holds the text.

    Raises:
      UserError: a source cannot be read, with file, line and field.
    """
    refuse_existing(out)
    files = find_files(sources)
    tokens = _tokens(tokenizer, files, text_field)
    settings: dict[str, object] = {
        "sources": [str(file) for file in files],
        "text_field": text_field,
        "tokenizer": tokenizer,
    }
    return write_corpus(read_documents(files, text_field), out, tokens, block_length, settings)


def _tokens(tokenizer: str, files: Sequence[Path], text_field: str) -> Tokens:
    if not tokenizer.startswith(TRAIN):
        return load_tokens(Path(tokenizer))
    size = tokenizer.removeprefix(TRAIN)
    if not size.isdecimal() or len(size) > 8:
        raise UserError(
            f"--tokenizer {tokenizer}: expected train:VOCAB with a number of ids, as train:8192"
        )
    return train_tokens(read_documents(files, text_field), int(size))
