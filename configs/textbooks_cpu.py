"""A small reward model from scratch on textbooks, minutes on 2 CPU cores.

Expects corpora/textbooks/{train,valid,test}; configs/data/folder.py makes them of any folders of
text, and has the commands.
Run: rbs train configs/textbooks_cpu.py
"""

from rbs_jax.data.grid import GridConfig
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.optim import OptimConfig

experiment = Experiment(
    data=DataConfig(
        train=("corpora/textbooks/train",),
        valid="corpora/textbooks/valid",
        test="corpora/textbooks/test",
    ),
    grid=GridConfig(prefixes=4, grids_per_step=4),
    model=TransformerConfig(vocab_size=8192, dtype="float32", scan_layers=False),
    optim=OptimConfig(learning_rate=1e-3, warmup_steps=50, schedule="cosine", weight_decay=0.1),
    train=TrainConfig(steps=2000, log_every=10, checkpoint_every=500),
)
