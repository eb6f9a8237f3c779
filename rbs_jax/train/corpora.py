"""The corpora of a run, checked against each other and the model."""

from typing import NamedTuple

from rbs_jax.data.mixture import fingerprint
from rbs_jax.data.reader import Corpus
from rbs_jax.data.tokens import load_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.hosts.together import refuse_unlike
from rbs_jax.storage import exists
from rbs_jax.train.models import folder_of


class Corpora(NamedTuple):
    """What a run reads."""

    train: tuple[Corpus, ...]
    fingerprint: str
    """Of the train corpora, and of their weights where they are several."""
    held_out: dict[str, Corpus]
    """valid and test, as far as they are given."""


def open_corpora(experiment: Experiment) -> Corpora:
    """The corpora that the experiment names, checked against each other and the model.

    Raises:
      UserError: one is missing or given twice, ids exceed the vocabulary, tokenizers differ, or
        another process has found others.
    """
    data = experiment.data
    if not all(data.train) or not data.train:
        raise UserError("data.train is not set: give the corpus to train on with --data.train")
    train = tuple(Corpus(path, data.cache_gigabytes) for path in data.train)
    named = {"valid": data.valid, "test": data.test}
    held_out = {n: Corpus(path, data.cache_gigabytes) for n, path in named.items() if path}
    opened = [*(("train", corpus) for corpus in train), *held_out.items()]
    _check_tokenizer_of_init(experiment, train[0])
    for at, (name, corpus) in enumerate(opened):
        manifest = corpus.manifest
        if manifest.vocab_size > experiment.model.vocab_size:
            mend = f"set --model.vocab-size {manifest.vocab_size}"
            if experiment.model.init is not None:
                mend = "model.init knows no more: prepare it with that model's tokenizer"
            raise UserError(
                f"data.{name} {corpus.folder}: the tokenizer has {manifest.vocab_size} ids, "
                f"model.vocab_size is {experiment.model.vocab_size}; {mend}"
            )
        for earlier, other in opened[:at]:
            if other.manifest.fingerprint == manifest.fingerprint:
                raise UserError(_twice(earlier, name, corpus))
        if manifest.tokenizer_sha256 != train[0].manifest.tokenizer_sha256:
            of = "data.train" if name != "train" else train[0].folder
            raise UserError(
                f"data.{name} {corpus.folder}: not the tokenizer of {of}; "
                f"prepare it with --tokenizer {train[0].folder}"
            )
    found = Corpora(train, fingerprint(train, data.weights), held_out)
    others = {name: corpus.manifest.fingerprint for name, corpus in held_out.items()}
    refuse_unlike([found.fingerprint, others], "what the corpora hold")
    return found


def _twice(name: str, other: str, corpus: Corpus) -> str:
    if name == other:
        return f"data.train names one corpus twice, {corpus.folder}: give it a larger weight"
    same = f"data.{name} and data.{other} are one corpus, {corpus.folder}"
    return f"{same}: figures on it would show nothing"


def _check_tokenizer_of_init(experiment: Experiment, corpus: Corpus) -> None:
    """Weights know the ids of one tokenizer."""
    if experiment.model.init is None:
        return
    folder = folder_of(experiment.model.init)
    has_tokenizer = exists(f"{folder}/tokenizer.json")
    if has_tokenizer and load_tokens(folder).sha256 != corpus.manifest.tokenizer_sha256:
        raise UserError(
            f"data.train {corpus.folder}: not the tokenizer of model.init {folder}; "
            f"prepare it with --tokenizer {folder}"
        )
