import random

import pytest
from hypothesis import settings

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
