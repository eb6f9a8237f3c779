"""Qwen2.5 3B Instruct by our recipe, that of configs/llama32_1b.py.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. For comparison: the paper's recipe
(configs/paper_qwen25_3b.py) is reported at 70.0 on RewardBench and 46.2 on RewardBench 2.
These are the paper's weights too, an instruct model; here text stays plain, without its chat
template.

`rbs plan configs/qwen25_3b.py --topology v5e:4x4` says whether it fits, and how (docs/plan.md).

Commands (texts as in configs/llama32_1b.py; a corpus holds the ids of one tokenizer):
hf download Qwen/Qwen2.5-3B-Instruct --local-dir backbones/qwen25_3b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/train \
    --tokenizer backbones/qwen25_3b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/valid \
    --tokenizer backbones/qwen25_3b --sources "texts/finemath-4plus/train-00001*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/test \
    --tokenizer backbones/qwen25_3b --sources "texts/finemath-4plus/train-00002*"
rbs train configs/qwen25_3b.py
"""

import dataclasses

from llama32_1b import experiment as ours

from rbs_jax.model.backbones import QWEN25_3B

experiment = dataclasses.replace(
    ours, model=dataclasses.replace(QWEN25_3B, init="backbones/qwen25_3b")
)
