"""`rbs prepare`: text files to a corpus."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.manifest import Manifest
from rbs_jax.data.sources import Unreadable, find_files, read_documents, refuse
from rbs_jax.data.tokens import Tokens, load_tokens, train_tokens
from rbs_jax.errors import UserError
from rbs_jax.files import refuse_existing

TRAIN = "train:"


def prepare(
    sources: Sequence[str],
    tokenizer: str,
    out: Path,
    block_length: int,
    text_field: str,
    strict: bool = False,
) -> Manifest:
    """Tokenise, pack and write the documents of `sources` as a corpus.

    Documents that cannot be read are left out; the first few are named on stderr,
    all are counted in the manifest.

    Args:
      sources: .jsonl, .jsonl.gz, .jsonl.zst, .parquet and .txt files, folders of
        them, globs.
      tokenizer: a tokenizer.json, the folder that holds one (a corpus or a run
        does), or train:VOCAB to learn VOCAB ids from the sources.
      out: the corpus's folder; must not exist.
      block_length: ids of a block, at least prefix + suffix [tokens].
      text_field: the .jsonl field or .parquet column that holds the text.
      strict: refuse the first document that cannot be read.

    Raises:
      UserError: a file cannot be read, or no document can, with file, line and field.
    """
    refuse_existing(out)
    files = find_files(sources)
    unreadable = Unreadable()
    if tokenizer.startswith(TRAIN):
        leave_out = refuse if strict else unreadable.leave_out
        tokens = _train(tokenizer, read_documents(files, text_field, leave_out))
        unreadable = Unreadable(shown=0)  # those shown are met again
    else:
        tokens = load_tokens(Path(tokenizer))
    settings: dict[str, object] = {
        # A file name need not be UTF-8, a manifest must.
        "sources": [str(file).encode("utf-8", "backslashreplace").decode() for file in files],
        "text_field": text_field,
        "tokenizer": tokenizer,
    }
    documents = read_documents(files, text_field, refuse if strict else unreadable.leave_out)
    return write_corpus(documents, out, tokens, block_length, settings, unreadable)


def _train(tokenizer: str, documents: Iterable[str]) -> Tokens:
    size = tokenizer.removeprefix(TRAIN)
    if not size.isdecimal() or len(size) > 8:
        raise UserError(
            f"--tokenizer {tokenizer}: expected train:VOCAB with a number of ids, as train:8192"
        )
    # In a thread, since the library answers Ctrl-C only when it is done.
    return ThreadPoolExecutor(1).submit(train_tokens, documents, int(size)).result()
