"""The corpora of a run, checked against each other and the model."""

from pathlib import Path

from rbs_jax.data.reader import Corpus
from rbs_jax.data.tokens import load_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.train.models import folder_of


def open_corpora(experiment: Experiment) -> dict[str, Corpus]:
    """The corpora that the experiment names, checked against each other and the model.

    Raises:
      UserError: one is missing or given twice, ids exceed the vocabulary, or tokenizers differ.
    """
    named = {
        "train": experiment.data.train,
        "valid": experiment.data.valid,
        "test": experiment.data.test,
    }
    if not named["train"]:
        raise UserError("data.train is not set: give the corpus to train on with --data.train")
    corpora = {name: Corpus(Path(path)) for name, path in named.items() if path}
    _check_tokenizer_of_init(experiment, corpora["train"])
    for name, corpus in corpora.items():
        manifest = corpus.manifest
        if manifest.vocab_size > experiment.model.vocab_size:
            mend = f"set --model.vocab-size {manifest.vocab_size}"
            if experiment.model.init is not None:
                mend = "model.init knows no more: prepare it with that model's tokenizer"
            raise UserError(
                f"data.{name} {corpus.folder}: the tokenizer has {manifest.vocab_size} ids, "
                f"model.vocab_size is {experiment.model.vocab_size}; {mend}"
            )
        same = [o for o in corpora if corpora[o].manifest.fingerprint == manifest.fingerprint]
        if len(same) > 1:
            raise UserError(
                f"data.{same[0]} and data.{same[1]} are one corpus, {corpus.folder}: "
                "figures on it would show nothing"
            )
        if manifest.tokenizer_sha256 != corpora["train"].manifest.tokenizer_sha256:
            raise UserError(
                f"data.{name} {corpus.folder}: not the tokenizer of data.train; "
                f"prepare it with --tokenizer {corpora['train'].folder}"
            )
    return corpora


def _check_tokenizer_of_init(experiment: Experiment, corpus: Corpus) -> None:
    """Weights know the ids of one tokenizer."""
    if experiment.model.init is None:
        return
    folder = folder_of(experiment.model.init)
    has_tokenizer = (folder / "tokenizer.json").is_file()
    if has_tokenizer and load_tokens(folder).sha256 != corpus.manifest.tokenizer_sha256:
        raise UserError(
            f"data.train {corpus.folder}: not the tokenizer of model.init {folder}; "
            f"prepare it with --tokenizer {folder}"
        )
