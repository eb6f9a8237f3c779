"""Llama 3.1 8B by our recipe, that of configs/llama32_1b.py.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. The paper has no figures for this backbone.

Memory of each of 16 devices, by arithmetic alone: 7.5 GB of weights, gradients and moments,
17.4 GB of layer inputs, and of one layer's attention several arrays of 12.9 GB where its
float32 logits are held whole. So no v5e:4x4 (16 GB a chip): take chips with more memory.

Commands (texts as in configs/llama32_1b.py; a corpus holds the ids of one tokenizer):
hf download meta-llama/Llama-3.1-8B --exclude "original/*" --local-dir backbones/llama31_8b
rbs prepare "texts/finemath-4plus/train-00000*" --out corpora/finemath/train \
    --tokenizer backbones/llama31_8b --block-length 1536
rbs prepare "texts/finemath-4plus/train-00001*" --out corpora/finemath/valid \
    --tokenizer backbones/llama31_8b --block-length 1536
rbs prepare "texts/finemath-4plus/train-00002*" --out corpora/finemath/test \
    --tokenizer backbones/llama31_8b --block-length 1536
rbs train configs/llama31_8b.py
"""

import dataclasses

from llama32_1b import experiment as ours

from rbs_jax.model.backbones import LLAMA31_8B
from rbs_jax.train.heldout import HeldoutConfig

experiment = dataclasses.replace(
    ours,
    model=dataclasses.replace(LLAMA31_8B, init="backbones/llama31_8b"),
    heldout=HeldoutConfig(candidates=32),  # so that fsdp may be 32
)
