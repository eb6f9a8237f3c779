"""Llama 3.2 3B by our recipe, that of configs/llama32_1b.py.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. For comparison: the paper's recipe
(configs/paper_llama32_3b.py) is reported at 65.6 on RewardBench and 36.2 on RewardBench 2.

Memory of each of 16 devices, by arithmetic alone: 3.2 GB of weights, gradients and moments,
11.5 GB of layer inputs, and of one layer's attention several arrays of 9.7 GB where its
float32 logits are held whole. So no v5e:4x4 (16 GB a chip): take chips with more memory.

Commands (texts as in configs/llama32_1b.py; a corpus holds the ids of one tokenizer):
hf download meta-llama/Llama-3.2-3B --exclude "original/*" --local-dir backbones/llama32_3b
rbs prepare "texts/finemath-4plus/train-00000*" --out corpora/finemath/train \
    --tokenizer backbones/llama32_3b --block-length 1536
rbs prepare "texts/finemath-4plus/train-00001*" --out corpora/finemath/valid \
    --tokenizer backbones/llama32_3b --block-length 1536
rbs prepare "texts/finemath-4plus/train-00002*" --out corpora/finemath/test \
    --tokenizer backbones/llama32_3b --block-length 1536
rbs train configs/llama32_3b.py
"""

import dataclasses

from llama32_1b import experiment as ours

from rbs_jax.model.backbones import LLAMA32_3B

experiment = dataclasses.replace(
    ours, model=dataclasses.replace(LLAMA32_3B, init="backbones/llama32_3b")
)
