"""`rbs score`: a file of prompts and responses in, the same lines with scores out."""

import dataclasses
import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import jax
from tqdm import tqdm

from rbs_jax.data.answers import prompt_of, responses_of
from rbs_jax.data.sources import Record, in_batches, read_jsonl
from rbs_jax.data.template import Form, TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.hosts.together import first_says, is_first, refuse_unlike
from rbs_jax.remote import is_remote
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.storage import exists, whole_file
from rbs_jax.train.models import find_model, load_model

LINES = 256
"""Lines read and scored together."""


def score_file(
    model: str, file: str, out: str, form: Form | None = None, close: bool | None = None
) -> dict[str, Any]:
    """Score every response of a .jsonl file; `out` appears once it is whole.

    Each line holds `{"prompt": str, "responses": [str, ...]}`, the prompt a string or
    a list of `{"role": str, "content": str}`, and comes out with `"scores"`, a reward
    for each response or null, all other fields kept. Of several processes each reads
    the file, all score it together, and process 0 writes.

    Args:
      model: a MODEL.
      file: the lines, by path or URL.
      out: where to, a path or URL.
      form: how prompt and response become one text; None as in training.
      close: whether what ends the response's turn is part of it; None as in training.

    Returns:
      Counts of lines, responses and null scores, and responses a second.

    Raises:
      UserError: no such model, a line that cannot be scored, with its number, or
        `out` cannot be written.
    """
    found = find_model(model)
    first_says(lambda: _refuse(file, out))
    mesh = mesh_for_scoring(found.experiment.mesh)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        loaded = load_model(found, mesh)
        trained = loaded.experiment.template
        template = TemplateConfig(form or trained.form, trained.close if close is None else close)
        experiment = dataclasses.replace(loaded.experiment, template=template)
        scorer = Scorer(loaded._replace(experiment=experiment), mesh)
        with (
            whole_file(out) if is_first() else nullcontext(Path(os.devnull)) as place,
            place.open("w", encoding="utf-8") as lines,
        ):
            counts = _score_lines(scorer, file, lines)
    seconds = time.perf_counter() - began
    return counts | {"responses_per_second": counts["responses"] / seconds}


def _refuse(file: str, out: str) -> None:
    if not (exists(file) if is_remote(file) else Path(file).is_file()):
        raise UserError(f"{file}: no such file")
    if not is_remote(out) and Path(out).is_dir():
        raise UserError(f"{out}: is a folder; give a file to write with --out")


def _read_alike(file: str) -> Iterator[list[Record]]:
    """The file's lines by LINES, the same in every process.

    Raises:
      UserError: a line is no JSON object, or another process has read another.
    """
    for records in chain(in_batches(read_jsonl(file), LINES), [[]]):
        digest = zlib.crc32(json.dumps([record.fields for record in records]).encode())
        upto = f"up to line {records[-1].where.rpartition(':')[2]}" if records else "where it ends"
        refuse_unlike(digest, f"{file}: {upto}")
        if records:
            yield records


def _score_lines(scorer: Scorer, file: str, out: TextIO) -> dict[str, Any]:
    counts = {"lines": 0, "responses": 0, "null_scores": 0}
    with tqdm(unit="response", disable=None) as bar:
        for records in _read_alike(file):
            prompts = [prompt_of(record) for record in records]
            responses = [responses_of(record) for record in records]
            scores = scorer.score(prompts, responses, [record.where for record in records])
            for record, own in zip(records, scores, strict=True):
                out.write(json.dumps(record.fields | {"scores": own}) + "\n")
                counts["lines"] += 1
                counts["responses"] += len(own)
                counts["null_scores"] += own.count(None)
                bar.update(len(own))
    return counts
