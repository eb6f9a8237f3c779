import random

import fsspec
import numpy as np
import pytest
from hypothesis import settings

from rbs_jax import remote as remote_module
from rbs_jax.data import corpus as corpus_module
from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.reader import Corpus
from rbs_jax.data.tokens import train_tokens

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

WORDS = ["the", "reward", "of", "a", "true", "suffix", "stands", "above", "all", "others"]


@pytest.fixture(scope="session")
def texts():
    """60 documents of 1 to 30 words: some fill many blocks of 8 ids, some share one."""
    chance = random.Random(0)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 30))) for _ in range(60)]


@pytest.fixture(scope="session")
def tokens(texts):
    return train_tokens(texts, 300)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, texts, tokens):
    folder = tmp_path_factory.mktemp("corpus") / "train"
    write_corpus(texts, folder, tokens, 8, {})
    return Corpus(folder)


@pytest.fixture(scope="session")
def sharded(tmp_path_factory, texts, tokens):
    """A corpus of the same tokenizer in a dozen shards, with longer blocks."""
    folder = tmp_path_factory.mktemp("sharded") / "train"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "SHARD_CHARACTERS", 400)
        write_corpus(texts[::-1], folder, tokens, 10, {})
    return Corpus(folder)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Puts a corpus's folder behind a URL, with a cache of this test's own."""
    monkeypatch.setenv("RBS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_module, "PAUSE", 0.001)
    files = fsspec.filesystem("memory")

    def put(corpus, name="bucket"):
        files.put(corpus.folder, f"/{name}/train", recursive=True)
        return f"memory://{name}/train"

    yield put
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A corpus in which every half block is one of a kind."""
    chance = np.random.default_rng(0)
    sizes = chance.integers(1, 40, size=60)
    texts = ["".join(chance.choice(list("abcdefghijklmnopqrstuvwxyz"), size=n)) for n in sizes]
    folder = tmp_path_factory.mktemp("letters") / "train"
    write_corpus(texts, folder, train_tokens(texts, 258), 8, {})
    return Corpus(folder)


@pytest.fixture
def sentences(tmp_path):
    """A corpus of documents with and without full stops, a letter an id."""
    texts = ["abc. def. ghi. jkl.", "abcdefghijklmnopqrst", "abcdefg. hijklmn. op"] * 9
    write_corpus(texts, tmp_path / "sentences", train_tokens(texts, 258), 8, {})
    return Corpus(tmp_path / "sentences")
