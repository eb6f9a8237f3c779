"""Qwen3 0.6B by our recipe, that of configs/llama32_1b.py.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. The paper has no figures for this backbone.

`rbs plan configs/qwen3_0_6b.py --topology v5e:4x4` says whether it fits, and how (docs/plan.md).

Commands (texts as in configs/llama32_1b.py; a corpus holds the ids of one tokenizer):
hf download Qwen/Qwen3-0.6B --local-dir backbones/qwen3_0_6b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/train \
    --tokenizer backbones/qwen3_0_6b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/valid \
    --tokenizer backbones/qwen3_0_6b --sources "texts/finemath-4plus/train-00001*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/test \
    --tokenizer backbones/qwen3_0_6b --sources "texts/finemath-4plus/train-00002*"
rbs train configs/qwen3_0_6b.py
"""

import dataclasses

from llama32_1b import experiment as ours

from rbs_jax.model.backbones import QWEN3_0_6B

experiment = dataclasses.replace(
    ours, model=dataclasses.replace(QWEN3_0_6B, init="backbones/qwen3_0_6b")
)
