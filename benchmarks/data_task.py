"""What benchmarks/data.py prepares: documents in files of every kind, and a tokenizer."""

import gzip
import json
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np

WORDS = 50_000
"""Different words of made-up text; the n-th is n times rarer than the first."""
LEARNT_FROM, VOCABULARY = 1_000, 8_192
"""Documents that a tokenizer is learnt from, and its ids."""
MEGABYTE = 1e6


def documents(megabytes: float, seed: int) -> Iterator[str]:
    """Made-up texts of a few thousand characters, so much in all; the same for the same seed."""
    chance = np.random.default_rng(seed)
    words = np.array(_words(chance), object)
    shares = np.cumsum(1 / np.arange(1, WORDS + 1))
    marks = np.array(["", ",", ".", ".\n\n"], object)
    left = megabytes * MEGABYTE
    while left > 0:
        count = min(int(chance.lognormal(6, 1)) + 20, 20_000)
        drawn = words[np.searchsorted(shares, chance.random(count) * shares[-1])]
        text = " ".join(drawn + marks[chance.choice(4, count, p=[0.87, 0.06, 0.06, 0.01])])
        left -= len(text)
        yield text


def _words(chance: np.random.Generator) -> list[str]:
    """Different words of some syllables each, in no order."""
    syllables = ["".join(letters) for letters in product("bcdfglmnprst", "aeiou", ["", "n", "r"])]
    made: dict[str, None] = {}
    while len(made) < WORDS:
        made["".join(chance.choice(syllables, chance.integers(1, 5)))] = None
    return list(made)


def write(texts: Iterator[str], kind: str, folder: Path, files: int, megabytes: float) -> list[str]:
    """Files of a kind (jsonl, jsonl.gz, parquet), each with about as much text.

    A parquet file is one row group, which is the hardest to read a piece at a time.
    """
    folder.mkdir(parents=True)
    paths = []
    for number in range(files):
        own = texts if number == files - 1 else _take(texts, megabytes * MEGABYTE / files)
        path = folder / f"text-{number}.{kind}"
        if kind == "parquet":
            _write_parquet(own, path)
        else:
            _write_lines(own, path)
        paths.append(str(path))
    return paths


def _take(texts: Iterator[str], size: float) -> Iterator[str]:
    for text in texts:
        yield text
        size -= len(text)
        if size <= 0:
            return


def _write_lines(texts: Iterator[str], path: Path) -> None:
    with gzip.open(path, "wt", 1) if path.suffix == ".gz" else path.open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")


def _write_parquet(texts: Iterator[str], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"text": list(texts)})
    parquet.write_table(table, path, row_group_size=len(table))


def learn_tokenizer(folder: Path, seed: int) -> Path:
    """A tokenizer of made-up text, as a folder."""
    from rbs_jax.data.tokens import train_tokens

    folder.mkdir()
    texts = islice(documents(float("inf"), seed), LEARNT_FROM)
    train_tokens(texts, VOCABULARY).save(folder)
    return folder
