import dataclasses

import fsspec
import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.mixture import fingerprint
from rbs_jax.data.reader import Corpus
from rbs_jax.data.tokens import load_tokens, train_tokens
from rbs_jax.errors import UserError
from rbs_jax.train.corpora import open_corpora
from rbs_jax.train.heldout import Heldout
from rbs_jax.train.loop import train
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


def test_a_run_on_a_mixture_goes_on_with_the_same_one_alone(
    experiment, corpora, more, bucket, tmp_path
):
    """Wherever its corpora lie, and however their weights are written."""
    one, two = (dataclasses.replace(experiment.train, steps=steps) for steps in (1, 2))
    local, remote = str(corpora / "train"), f"{bucket}/train"
    mixed = on(experiment, remote, more, weights=(0.7, 0.3), test=None)
    assert train(dataclasses.replace(mixed, train=one), tmp_path / "run")["steps"] == 1
    mixed = dataclasses.replace(mixed, train=two)
    with pytest.raises(UserError, match=r"another corpus \(data\.train was"):
        train(on(mixed, remote, more, weights=(0.3, 0.7)), tmp_path / "run")
    assert train(on(mixed, local, more, weights=(7.0, 3.0)), tmp_path / "run")["steps"] == 2
