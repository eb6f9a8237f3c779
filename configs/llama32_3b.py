"""Llama 3.2 3B by our recipe, that of configs/llama32_1b.py.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. For comparison: the paper's recipe
(configs/paper_llama32_3b.py) is reported at 65.6 on RewardBench and 36.2 on RewardBench 2.

`rbs plan configs/llama32_3b.py --topology v5e:4x4` finds that it fits with half of
the rows at a time: 14.4 of a chip's 15.75 GiB at most, 7.5 s a step at least (docs/plan.md).

Commands (texts as in configs/llama32_1b.py; a corpus holds the ids of one tokenizer):
hf download meta-llama/Llama-3.2-3B --exclude "original/*" --local-dir backbones/llama32_3b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/train \
    --tokenizer backbones/llama32_3b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/valid \
    --tokenizer backbones/llama32_3b --sources "texts/finemath-4plus/train-00001*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/test \
    --tokenizer backbones/llama32_3b --sources "texts/finemath-4plus/train-00002*"
rbs train configs/llama32_3b.py
"""

import dataclasses

from llama32_1b import experiment as ours

from rbs_jax.model.backbones import LLAMA32_3B

experiment = dataclasses.replace(
    ours, model=dataclasses.replace(LLAMA32_3B, init="backbones/llama32_3b")
)
