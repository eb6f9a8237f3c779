"""InfiMM-WebMath 4+: the text of its pages that FineMath's classifier gives 4 or 5 of 5.

Not run here on its own files: tests apply this recipe to a made file with the same columns. They
are published beside FineMath, whose card names the columns: url and text (strings), score
(float64), int_score (int64, the score rounded), metadata, token_count and char_count. It says of
all files: 6.3 million documents, 8.5 billion tokens, English. How many files that is, and whether
near duplicates were dropped as in FineMath, is not known here.

Commands (`hf` comes with pip install huggingface_hub):
hf download meta-llama/Llama-3.2-1B --exclude "original/*" --local-dir backbones/llama32_1b
hf download HuggingFaceTB/finemath --repo-type dataset --local-dir texts \
    --include "infiwebmath-4plus/train-0000[0-2]*"
rbs prepare configs/data/infiwebmath_4plus.py --out corpora/infiwebmath/train
rbs prepare configs/data/infiwebmath_4plus.py --out corpora/infiwebmath/valid \
    --sources "texts/infiwebmath-4plus/train-00001*"
rbs prepare configs/data/infiwebmath_4plus.py --out corpora/infiwebmath/test \
    --sources "texts/infiwebmath-4plus/train-00002*"
"""

from rbs_jax.data.recipe import Recipe

recipe = Recipe(
    sources=("texts/infiwebmath-4plus/train-00000*",),
    tokenizer="backbones/llama32_1b",
    block_length=1536,
    id_field="url",  # in the lists of what was dropped
    score_field="int_score",
    min_score=4.0,  # all rows of this subset have it, so files of infiwebmath-3plus do as well
    duplicates="near",
    # benchmarks=("bench/**/*.jsonl",),  # yours; a glob that names no file is refused
    shuffle_seed=0,
)
