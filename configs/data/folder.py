"""A folder of your own text, and a tokenizer learnt from it: for configs/textbooks_cpu.py.

`my_texts/train`, `valid` and `test` hold files of any kind that is read (docs/data.md), in folders
of any depth. Held-out documents that share 13 words in a row with one of training are dropped.

Commands:
rbs prepare configs/data/folder.py --out corpora/textbooks/train
rbs prepare configs/data/folder.py --out corpora/textbooks/valid --sources my_texts/valid \
    --tokenizer corpora/textbooks/train --benchmarks my_texts/train
rbs prepare configs/data/folder.py --out corpora/textbooks/test --sources my_texts/test \
    --tokenizer corpora/textbooks/train --benchmarks my_texts/train
rbs train configs/textbooks_cpu.py
"""

from rbs_jax.data.recipe import Recipe

recipe = Recipe(
    sources=("my_texts/train",),
    tokenizer="train:8192",
    duplicates="near",
    # benchmarks=("bench/**/*.jsonl",),  # yours; a glob that names no file is refused
    shuffle_seed=0,
)
