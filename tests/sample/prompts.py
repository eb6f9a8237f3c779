"""Prompts to draw candidates for, and what was drawn."""

import json

from rbs_jax.data.sources import Record
from rbs_jax.sample.config import SampleConfig

FEW = SampleConfig(n=3, at_once=4, timeout=60.0)
TALK = [{"role": "system", "content": "Be odd."}, {"role": "user", "content": "two 🐑"}]
LINES = [
    {"prompt": "one", "id": "a", "odd": float("nan")},
    {"prompt": TALK, "id": None},
    {"prompt": "three", "answer": "3"},
    {"prompt": "four"},
]
EDITED = [
    {"prompt": "one", "new": ["\ud83d"], "id": "a"},
    {"prompt": TALK, "id": None, "answer": 2},
    {"prompt": "three", "answer": "4"},
    {"prompt": "four", "id": None},
]
"""LINES with other fields, in another order, of the same prompts and ids."""


def records(lines=LINES, file="in.jsonl"):
    return [Record(dict(line), f"{file}:{at}") for at, line in enumerate(lines, 1)]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
