"""What benchmarks/data.py times, each run as a program of its own.

    python data_sides.py SIDE TASK.json

The last line it prints is JSON: what was made, and the seconds of the work without imports.
"""

import json
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

BATCH = 512
"""Documents that are given to the tokenizer at once, as ours does."""


def ours(task: dict[str, Any]) -> dict[str, Any]:
    """`rbs prepare`, with what it imports imported before."""
    import rbs_jax.prepare  # noqa: F401
    from rbs_jax.cli import main
    from rbs_jax.data.manifest import read_manifest

    flags = {
        "--tokenizer": task["tokenizer"],
        "--out": task["out"],
        "--block-length": str(task["block_length"]),
        "--workers": str(task["processes"]),
        "--duplicates": task["duplicates"],
    }
    began = time.perf_counter()
    status = main(["prepare", *task["files"], *chain.from_iterable(flags.items())])
    seconds = time.perf_counter() - began
    if status:
        sys.exit(status)
    made = read_manifest(Path(task["out"]))
    tokens = made.token_count + made.dropped_token_count
    return {"seconds": seconds, "tokens": tokens, "blocks": made.block_count}


def datasets(task: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face: two batched maps, the second packs as run_clm does, and save_to_disk."""
    import pyarrow.compute as pc
    from datasets import Dataset, disable_progress_bars
    from transformers import PreTrainedTokenizerFast

    disable_progress_bars()
    length, count = task["block_length"], task["processes"]
    began = time.perf_counter()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=f"{task['tokenizer']}/tokenizer.json", split_special_tokens=True
    )
    end = task["end_id"]

    def tokenised(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = tokenizer(
            batch["text"], add_special_tokens=False, return_attention_mask=False
        ).input_ids
        return {"input_ids": [[*own, end] for own in ids]}

    def packed(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        ids = list(chain.from_iterable(batch["input_ids"]))
        stop = len(ids) // length * length
        return {"input_ids": [ids[at : at + length] for at in range(0, stop, length)]}

    read = Dataset.from_parquet if task["files"][0].endswith(".parquet") else Dataset.from_json
    texts = read(
        task["files"], cache_dir=task["out"] + "-cache", num_proc=min(count, len(task["files"]))
    )
    several = {"batched": True, "num_proc": count if count > 1 else None}
    tokens = texts.map(tokenised, remove_columns=texts.column_names, **several)
    blocks = tokens.map(packed, **several)
    blocks.save_to_disk(task["out"], num_proc=several["num_proc"])
    seconds = time.perf_counter() - began
    total = pc.sum(pc.list_value_length(tokens.data.column("input_ids"))).as_py()
    return {"seconds": seconds, "tokens": total, "blocks": len(blocks)}


def tokenizer(task: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's library alone, in threads, on texts that are in memory."""
    from tokenizers import Tokenizer

    from rbs_jax.data.documents import LeftOut, read_part
    from rbs_jax.data.parts import Part
    from rbs_jax.data.recipe import Recipe

    parts = [Part(file, 0, None, 0) for file in task["files"]]
    found = (read_part(part, Recipe(), LeftOut(strict=True)) for part in parts)
    texts = [document.text for document in chain.from_iterable(found)]
    loaded = Tokenizer.from_file(f"{task['tokenizer']}/tokenizer.json")
    loaded.encode_special_tokens = True
    tokens = len(texts)  # the ends
    began = time.perf_counter()
    for at in range(0, len(texts), BATCH):
        encoded = loaded.encode_batch_fast(texts[at : at + BATCH], add_special_tokens=False)
        tokens += sum(map(len, encoded))
    seconds = time.perf_counter() - began
    size = sum(len(text.encode()) for text in texts)
    return {"seconds": seconds, "tokens": tokens, "text_bytes": size, "documents": len(texts)}


def reading(task: dict[str, Any]) -> dict[str, Any]:
    """Blocks that the trainer's stream gives, a third of each the prefix."""
    from rbs_jax.data.grid import GridConfig
    from rbs_jax.data.reader import Corpus
    from rbs_jax.data.split import SplitConfig
    from rbs_jax.data.stream import GridStream

    corpus, length = Corpus(Path(task["corpus"])), task["block_length"]
    split = SplitConfig(prefix_length=length // 3, suffix_length=length - length // 3)
    stream = GridStream([corpus], split, GridConfig(prefixes=task["prefixes"]), seed=task["seed"])
    batches = stream.read(0, task["steps"] + 1)
    next(batches)  # starts the threads
    began = time.perf_counter()
    blocks = sum(batch.tokens.prefixes.shape[1] for batch in batches)
    return {"seconds": time.perf_counter() - began, "blocks": blocks}


if __name__ == "__main__":
    sides = {"ours": ours, "datasets": datasets, "tokenizer": tokenizer, "reading": reading}
    asked = json.loads(Path(sys.argv[2]).read_text())
    try:
        answer = sides[sys.argv[1]](asked)
    except ModuleNotFoundError as error:
        answer = {"absent": f"{error.name} is not installed"}
    print(json.dumps(answer))
