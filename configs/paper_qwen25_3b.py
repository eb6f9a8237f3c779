"""The paper's recipe for Qwen2.5 3B Instruct; configs/paper_llama32_3b.py has its reasons.

Expected: 70.0 on RewardBench and 46.2 on RewardBench 2. Gains and curve are published for
Llama 3.2 3B alone; its noise is told there. RewardBench may have run this one in 8 bits, its
first version's default for such a name.

An instruct model: the prefix is a user's turn in its chat template, and nothing ends the
response. The code drops blocks whose prefix, in this tokenizer's ids and its template, is too
long for its limit: many of those full of digits. Here none is dropped.

Not run here: no weights, no accelerator. Chips and hours are not measured.

Commands (texts as said there; a corpus holds the ids of one tokenizer):
hf download Qwen/Qwen2.5-3B-Instruct --local-dir backbones/qwen25_3b
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/train \
    --tokenizer backbones/qwen25_3b
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/test \
    --tokenizer backbones/qwen25_3b --sources "texts/finemath-4plus/train-00005*"
rbs train configs/paper_qwen25_3b.py
"""

import dataclasses

from paper_llama32_3b import experiment as paper

from rbs_jax.data.template import TemplateConfig
from rbs_jax.model.backbones import QWEN25_3B

experiment = dataclasses.replace(
    paper,
    template=TemplateConfig(form="chat", close=False),
    model=dataclasses.replace(QWEN25_3B, init="backbones/qwen25_3b"),
)
