"""FineMath 4+: web pages of mathematics that its classifier gives 4 or 5 of 5.

Not run here on its own files: tests apply this recipe to a made file with the same columns. The
dataset's card names them: url and text (strings), score (float64), int_score (int64, the score
rounded) and others that are not read. It says of all 64 files: 6.7 million documents, 9.6 billion
tokens, English, no near duplicates, and nothing that shares 13 words in a row with the test sets
of GSM8K, MATH, MMLU or ARC. What other benchmarks you measure with is for `benchmarks` to drop.

Commands (a file has 0.3 GB; `hf` comes with pip install huggingface_hub):
hf download meta-llama/Llama-3.2-1B --exclude "original/*" --local-dir backbones/llama32_1b
hf download HuggingFaceTB/finemath --repo-type dataset --local-dir texts \
    --include "finemath-4plus/train-0000[0-2]*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/train
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/valid \
    --sources "texts/finemath-4plus/train-00001*"
rbs prepare configs/data/finemath_4plus.py --out corpora/finemath/test \
    --sources "texts/finemath-4plus/train-00002*"
"""

from rbs_jax.data.recipe import Recipe

recipe = Recipe(
    sources=("texts/finemath-4plus/train-00000*",),
    tokenizer="backbones/llama32_1b",
    block_length=1536,
    id_field="url",  # in the lists of what was dropped
    score_field="int_score",
    min_score=4.0,  # all rows of this subset have it, so files of finemath-3plus do as well
    duplicates="near",
    # benchmarks=("bench/**/*.jsonl",),  # yours; a glob that names no file is refused
    shuffle_seed=0,
)
