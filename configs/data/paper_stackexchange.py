"""The paper's corpus (arXiv:2603.02225): FineMath 4+ pages with "stackexchange" in their url.

As its released command does: those rows, documents shuffled by seed 42, blocks of 1536 without
overlap, one end-of-text id behind each document, no further filter. What differs: the order is
another, since the shuffle is; blocks hold the ids of the backbone's own tokenizer, where its code
cuts blocks in Llama 3 ids whatever the backbone, and goes back to text.

Not run here on its own files: tests apply this recipe to a made file with the same columns
(configs/data/finemath_4plus.py has what is known of them). How many rows have such a url was not
counted; the paper's run reads 10.7M tokens, and four of the 64 files hold about 600M before the
filter. `rbs prepare` prints what it found: take more files where that is too little.

Commands (a file has 0.3 GB; `hf` comes with pip install huggingface_hub):
hf download meta-llama/Llama-3.2-3B --exclude "original/*" --local-dir backbones/llama32_3b
hf download HuggingFaceTB/finemath --repo-type dataset --local-dir texts \
    --include "finemath-4plus/train-0000[0-5]*"
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/train
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/valid \
    --sources "texts/finemath-4plus/train-00004*"
rbs prepare configs/data/paper_stackexchange.py --out corpora/stackexchange/test \
    --sources "texts/finemath-4plus/train-00005*"
"""

from rbs_jax.data.recipe import Recipe

recipe = Recipe(
    sources=("texts/finemath-4plus/train-0000[0-3]*",),
    tokenizer="backbones/llama32_3b",
    block_length=1536,
    url_pattern="stackexchange",
    duplicates="keep",  # as the paper; its publisher has dropped near duplicates
    # benchmarks=("bench/**/*.jsonl",),  # not in the paper; yours to drop before you measure
    shuffle_seed=42,
)
