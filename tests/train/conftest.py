import dataclasses

import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.tokens import train_tokens
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.train.heldout import HeldoutConfig
from tests.tiny import TINY, made_up_documents


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    """A folder with the corpora train, valid and test, a few hundred blocks of 16 ids."""
    folder = tmp_path_factory.mktemp("corpora")
    texts = made_up_documents(120)
    tokens = train_tokens(texts, 300)
    others = made_up_documents(60, seed=5)
    for name, part in (("train", texts[:80]), ("valid", others), ("test", texts[80:])):
        write_corpus(part, folder / name, tokens, 16, {})
    return folder


@pytest.fixture(scope="session")
def experiment(corpora):
    """A few steps of a tiny model."""
    return Experiment(
        data=DataConfig(train=(str(corpora / "train"),), test=str(corpora / "test")),
        split=SplitConfig(prefix_length=8, suffix_length=8),
        grid=GridConfig(prefixes=4, grids_per_step=2),
        model=dataclasses.replace(TINY, vocab_size=300),
        optim=OptimConfig(learning_rate=1e-2, warmup_steps=2),
        heldout=HeldoutConfig(candidates=4, grids=4),
        train=TrainConfig(steps=6, log_every=1, checkpoint_every=2, keep=2),
    )
