import dataclasses

import fsspec
import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.mixture import fingerprint
from rbs_jax.data.reader import Corpus
from rbs_jax.data.stream import BlockStream, GridStream
from rbs_jax.data.tokens import load_tokens, train_tokens
from rbs_jax.errors import UserError
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.train import loop
from rbs_jax.train.corpora import open_corpora
from rbs_jax.train.heldout import Heldout
from tests.tiny import made_up_documents


@pytest.fixture
def more(corpora, tmp_path):
    """A second corpus to train on, with longer blocks."""
    tokens = load_tokens(corpora / "train")
    write_corpus(made_up_documents(40, seed=9), tmp_path / "more", tokens, 20, {})
    return str(tmp_path / "more")


def on(experiment, *train_on, **fields):
    data = dataclasses.replace(experiment.data, train=train_on, **fields)
    return dataclasses.replace(experiment, data=data)


@pytest.fixture
def bucket(corpora, tmp_path, monkeypatch):
    """The corpora behind a URL."""
    monkeypatch.setenv("RBS_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    files.put(str(corpora), "/corpora", recursive=True)
    yield "memory://corpora"
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_one_corpus_keeps_its_fingerprint_and_several_have_one_of_all(experiment, corpora, more):
    own = str(corpora / "train")
    one = open_corpora(experiment)
    assert one.fingerprint == one.train[0].manifest.fingerprint
    assert set(one.held_out) == {"test"}
    both = open_corpora(on(experiment, own, more, weights=(0.7, 0.3)))
    assert [corpus.folder for corpus in both.train] == [own, more]
    assert both.fingerprint == fingerprint(both.train, (0.7, 0.3))
    assert both.fingerprint != open_corpora(on(experiment, own, more)).fingerprint


def test_corpora_given_twice_are_refused_wherever_they_stand(experiment, corpora, more):
    own, test = str(corpora / "train"), str(corpora / "test")
    with pytest.raises(UserError, match=r"data\.train names one corpus twice, .*larger weight"):
        open_corpora(on(experiment, own, more, own))
    with pytest.raises(UserError, match=r"data\.train and data\.test are one corpus"):
        open_corpora(on(experiment, own, test))
    with pytest.raises(UserError, match=r"data\.train and data\.valid are one corpus"):
        open_corpora(on(experiment, own, more, valid=more))
    with pytest.raises(UserError, match=r"data\.train is not set"):
        open_corpora(on(experiment, own, ""))


def test_all_corpora_have_one_tokenizer(experiment, corpora, tmp_path):
    texts, own = made_up_documents(40, seed=9), str(corpora / "train")
    write_corpus(texts, tmp_path / "odd", train_tokens(texts[:5], 280), 16, {})
    with pytest.raises(UserError, match=rf"^data\.train .*odd: not the tokenizer of {own}; "):
        open_corpora(on(experiment, own, str(tmp_path / "odd")))


def test_held_out_grids_of_a_remote_corpus_are_those_of_its_files(experiment, corpora, bucket):
    def grids(folder):
        return Heldout(Corpus(folder), experiment.split, experiment.heldout, seed=0)._grids

    np.testing.assert_equal(grids(f"{bucket}/test"), grids(corpora / "test"))


def test_a_run_on_a_mixture_reads_it_by_weight_and_keeps_its_fingerprint(
    experiment, corpora, more, bucket, tmp_path, monkeypatch
):
    mixed = on(experiment, f"{bucket}/train", more, weights=(0.3, 0.7), test=None)
    opened, kept = open_corpora(mixed), []

    def begun(_experiment, fingerprints, *_):
        kept.append(fingerprints["fingerprint"])
        raise InterruptedError

    monkeypatch.setattr(loop, "restore_or_init", begun)
    with pytest.raises(InterruptedError):
        loop.train(mixed, tmp_path / "run")
    assert kept == [opened.fingerprint]
    expected = GridStream(opened.train, mixed.split, mixed.grid, 0, None, (0.3, 0.7))
    np.testing.assert_equal(loop._stream(mixed, opened.train).batch(7), expected.batch(7))
    language = dataclasses.replace(
        on(experiment, f"{bucket}/train", f"{bucket}/valid", weights=(0.3, 0.7)),
        objective=ObjectiveConfig(loss="causal_lm"),
    )
    both = [Corpus(folder) for folder in language.data.train]
    blocks = BlockStream(both, language.grid, 0, (0.3, 0.7))
    np.testing.assert_equal(loop._stream(language, both).batch(7), blocks.batch(7))
