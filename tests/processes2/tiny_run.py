"""A folder with a tiny run: tiny.py and its corpora."""

import os
import sys

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.tokens import train_tokens
from tests.tiny import made_up_documents

CONFIG = """
import os

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.train.heldout import HeldoutConfig

corpora = os.environ["CORPORA"]
experiment = Experiment(
    data=DataConfig(train=(f"{corpora}/train",), valid=f"{corpora}/valid", test=f"{corpora}/test"),
    split=SplitConfig(prefix_length=8, suffix_length=8),
    grid=GridConfig(prefixes=4, grids_per_step=4),
    model=TransformerConfig(
        vocab_size=300, width=16, mlp_width=24, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=6, max_positions=64, dtype="float32",
    ),
    optim=OptimConfig(learning_rate=1e-2, warmup_steps=2),
    heldout=HeldoutConfig(candidates=4, grids=4),
    train=TrainConfig(steps=24, log_every=1, checkpoint_every=4, keep=2),
)
"""


def write_run(folder):
    """Write tiny.py and corpora/train, valid and test."""
    texts = made_up_documents(120)
    tokens = train_tokens(texts, 300)
    parts = {"train": texts[:80], "valid": made_up_documents(60, seed=5), "test": texts[80:]}
    for name, part in parts.items():
        write_corpus(part, folder / "corpora" / name, tokens, 16, {})
    (folder / "tiny.py").write_text(CONFIG)


def variables(folder):
    """What the environment of its processes holds; they share what they compile."""
    return {
        "CORPORA": str(folder / "corpora"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
