"""The paper's recipe for Llama 3.2 1B; configs/paper_llama32_3b.py has it with its reasons.

Expected: 60.0 on RewardBench and 33.2 on RewardBench 2 (its table says Llama 3.1 1B, which
there is none of). Gains and curve are published for the 3B alone; its noise is told there.
Whether this backbone had another learning rate is not known.

Not run here: no weights, no accelerator. Chips and hours are not measured.

Commands (texts as said there; a corpus holds the ids of one tokenizer):
hf download meta-llama/Llama-3.2-1B --exclude "original/*" --local-dir backbones/llama32_1b
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/train \
    --tokenizer backbones/llama32_1b
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/test \
    --tokenizer backbones/llama32_1b --sources "texts/finemath-4plus/train-00005*"
rbs train configs/paper_llama32_1b.py
"""

import dataclasses

from paper_llama32_3b import experiment as paper

from rbs_jax.model.backbones import LLAMA32_1B

experiment = dataclasses.replace(
    paper, model=dataclasses.replace(LLAMA32_1B, init="backbones/llama32_1b")
)
