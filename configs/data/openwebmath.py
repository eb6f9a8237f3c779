"""OpenWebMath: web pages with mathematics, of all levels, without scores.

Not run here on its own files: tests apply this recipe to a made file with the same columns. The
dataset's card names them, all strings: url, text, date and metadata. It says of all 114 files:
6.3 million documents, 14.7 billion tokens, English, 9.55% of the characters from
stackexchange.com.

Commands (a file has 0.24 GB; `hf` comes with pip install huggingface_hub):
hf download meta-llama/Llama-3.2-1B --exclude "original/*" --local-dir backbones/llama32_1b
hf download open-web-math/open-web-math --repo-type dataset --local-dir texts/openwebmath \
    --include "data/train-0000[0-2]*"
rbs prepare configs/data/openwebmath.py --out corpora/openwebmath/train
rbs prepare configs/data/openwebmath.py --out corpora/openwebmath/valid \
    --sources "texts/openwebmath/data/train-00001*"
rbs prepare configs/data/openwebmath.py --out corpora/openwebmath/test \
    --sources "texts/openwebmath/data/train-00002*"
"""

from rbs_jax.data.recipe import Recipe

recipe = Recipe(
    sources=("texts/openwebmath/data/train-00000*",),
    tokenizer="backbones/llama32_1b",
    block_length=1536,
    id_field="url",  # in the lists of what was dropped
    duplicates="near",
    # benchmarks=("bench/**/*.jsonl",),  # yours; a glob that names no file is refused
    shuffle_seed=0,
)
