"""Llama 3.1 8B by our recipe, that of configs/llama32_1b.py.

Not run here: no weights, no accelerator. Chips, hours and what to expect are not measured.
The learning rate is a guess, tuned on nothing. The paper has no figures for this backbone.

`rbs plan configs/llama31_8b.py --topology v5e:8x8` finds that it fits with --mesh.data 2
--mesh.fsdp 32 --grid.grids-per-step 2 and half of a row's suffixes at a time: 13.3 of a chip's
15.75 GiB at most, 9.3 s a step at least; and v5p:2x2x4 as it is, 7.7 s (docs/plan.md).

Commands (texts as in configs/llama32_1b.py; a corpus holds the ids of one tokenizer):
hf download meta-llama/Llama-3.1-8B --exclude "original/*" --local-dir backbones/llama31_8b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/train \
    --tokenizer backbones/llama31_8b
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/valid \
    --tokenizer backbones/llama31_8b --sources "texts/finemath-4plus/train-00001*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/test \
    --tokenizer backbones/llama31_8b --sources "texts/finemath-4plus/train-00002*"
rbs train configs/llama31_8b.py
"""

import dataclasses

from llama32_1b import experiment as ours

from rbs_jax.model.backbones import LLAMA31_8B

experiment = dataclasses.replace(
    ours, model=dataclasses.replace(LLAMA31_8B, init="backbones/llama31_8b")
)
