"""A small language model on textbooks, a backbone of one's own, minutes on 2 CPU cores.

Expects corpora/textbooks/{train,valid,test} as configs/textbooks_cpu.py does, and is of that
model's sizes. Run it, then start a reward model from it:

    rbs train configs/pretrain_textbooks.py
    rbs train configs/textbooks_cpu.py --model.init runs/pretrain_textbooks --out runs/from_lm

docs/backbone.md says what that gains.
"""

from rbs_jax.data.grid import GridConfig
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig

experiment = Experiment(
    data=DataConfig(
        train=("corpora/textbooks/train",),
        valid="corpora/textbooks/valid",
        test="corpora/textbooks/test",
    ),
    grid=GridConfig(prefixes=16, grids_per_step=1),
    model=TransformerConfig(vocab_size=8192, dtype="float32", scan_layers=False),
    objective=ObjectiveConfig(loss="causal_lm"),
    optim=OptimConfig(learning_rate=2e-3, warmup_steps=100, schedule="cosine", weight_decay=0.1),
    train=TrainConfig(steps=3000, log_every=50, checkpoint_every=500),
)
