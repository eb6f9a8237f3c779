"""Placeholder docstring, filled once measured."""

from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.optim import OptimConfig

experiment = Experiment(
    data=DataConfig(
        train="corpora/textbooks/train",
        valid="corpora/textbooks/valid",
        test="corpora/textbooks/test",
    ),
    model=TransformerConfig(vocab_size=8192, dtype="float32", scan_unroll=3),
    optim=OptimConfig(learning_rate=1e-3, warmup_steps=40, schedule="cosine"),
    train=TrainConfig(steps=600),
)
