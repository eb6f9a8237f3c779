"""Llama 3.2 1B by our recipe: shuffled grids, one update each, own documents masked.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. For comparison: the paper's recipe
(configs/paper_llama32_1b.py) is reported at 60.0 on RewardBench and 33.2 on RewardBench 2.

`rbs plan configs/llama32_1b.py --topology v5e:4x4` finds that it fits: 13.5 of a chip's 15.75 GiB
at most, 2.5 s a step at least (docs/plan.md).

Commands (any math texts do; `valid` and `test` need documents of several blocks):
hf download meta-llama/Llama-3.2-1B --exclude "original/*" --local-dir backbones/llama32_1b
hf download HuggingFaceTB/finemath --repo-type dataset --local-dir texts \
    --include "finemath-4plus/train-0000[0-2]*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/train \
    --tokenizer backbones/llama32_1b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/valid \
    --tokenizer backbones/llama32_1b --sources "texts/finemath-4plus/train-00001*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/test \
    --tokenizer backbones/llama32_1b --sources "texts/finemath-4plus/train-00002*"
rbs train configs/llama32_1b.py
"""

import dataclasses

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.backbones import LLAMA32_1B
from rbs_jax.optim import OptimConfig
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.heldout import HeldoutConfig

experiment = Experiment(
    data=DataConfig(
        train=("corpora/finemath/train",),
        valid="corpora/finemath/valid",
        test="corpora/finemath/test",
    ),
    split=SplitConfig(prefix_length=512, suffix_length=1024),
    grid=GridConfig(prefixes=32, order="shuffled", same_document="mask"),
    model=dataclasses.replace(LLAMA32_1B, init="backbones/llama32_1b"),
    optim=OptimConfig(learning_rate=1e-5, warmup_steps=10, schedule="cosine"),  # a guess
    # 218 x 32 blocks of 1536: the paper's 11M unique tokens.
    train=TrainConfig(steps=218, log_every=1, checkpoint_every=30, best_every=30),
    heldout=HeldoutConfig(candidates=32),  # so that mesh.fsdp may be 32
    mesh=MeshConfig(fsdp=16),
)
