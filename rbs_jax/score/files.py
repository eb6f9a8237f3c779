"""`rbs score`: a file of prompts and responses in, the same lines with scores out."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import jax

from rbs_jax.data.answers import prompt_of, responses_of
from rbs_jax.data.sources import Record, in_batches, read_jsonl
from rbs_jax.data.template import Form, TemplateConfig
from rbs_jax.digest import digest_of
from rbs_jax.errors import UserError
from rbs_jax.hosts.together import first_says, is_first, refuse_unlike
from rbs_jax.remote import is_remote
from rbs_jax.score.parts import Parts, begun
from rbs_jax.score.progress import Progress
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.storage import exists
from rbs_jax.train.checksum import checksum
from rbs_jax.train.models import LoadedModel, find_model, load_model

LINES = 1024
"""Lines read, scored and written together: a stop loses no more, and on benchmarks of pairs and
of best-of-N four times as many would pad less by only 0 to 7 tokens of a hundred computed."""


def score_file(
    model: str, file: str, out: str, form: Form | None = None, close: bool | None = None
) -> dict[str, Any]:
    """Score every response of a .jsonl file; `out` appears once it is whole.

    Each line holds `{"prompt": str, "responses": [str, ...]}`, the prompt a string or
    a list of `{"role": str, "content": str}`, and comes out with `"scores"`, a reward
    for each response or null, all other fields kept. Of several processes each reads
    the file, all score it together, and process 0 writes. What was scored before the
    command was stopped is not scored again, as long as model, template and lines are
    the same.

    Args:
      model: a MODEL.
      file: the lines, by path or URL.
      out: where to, a path or URL.
      form: how prompt and response become one text; None as in training.
      close: whether what ends the response's turn is part of it; None as in training.

    Returns:
      Counts of lines, responses, null scores and responses scored before, responses a
      second of those scored now, and how many shapes were compiled of how many.

    Raises:
      UserError: no such model, a line that cannot be scored, with its number, or
        `out` cannot be written.
    """
    found = find_model(model)
    first_says(lambda: _refuse(file, out))
    template = found.experiment.template.chosen(form, close)
    mesh = mesh_for_scoring(found.experiment.mesh)
    with jax.set_mesh(mesh):
        loaded = load_model(found, mesh)
        said = deciding(str(found), loaded, template)
    scorer = Scorer(loaded, mesh, template)
    with begun(out) as parts:
        return _score_lines(scorer, file, said, parts)


def _refuse(file: str, out: str) -> None:
    if not (exists(file) if is_remote(file) else Path(file).is_file()):
        raise UserError(f"{file}: no such file")
    if not is_remote(out) and Path(out).is_dir():
        raise UserError(f"{out}: is a folder; give a file to write with --out")


def deciding(model: str, loaded: LoadedModel, template: TemplateConfig) -> str:
    """What decides the score of a text, beside the text.

    Args:
      model: its name.
      loaded: it.
      template: how texts are made.
    """
    tokens, config = loaded.tokens, loaded.experiment.model
    decides = {
        "model": model,
        "checksum": checksum(loaded.model),
        "config": dataclasses.asdict(config),
        "template": dataclasses.asdict(template),
        "tokenizer": [tokens.sha256, tokens.special_tokens, tokens.chat_template],
    }
    return json.dumps(decides)


def _read_alike(file: str, said: str) -> Iterator[tuple[list[Record], str]]:
    """The file's lines by LINES, the same in every process, and what decides their scores.

    Raises:
      UserError: a line is no JSON object, or another process has read another.
    """
    for records in chain(in_batches(read_jsonl(file), LINES), [[]]):
        lines = json.dumps([said, [record.fields for record in records]])
        digest = digest_of(lines)
        upto = f"up to line {records[-1].where.rpartition(':')[2]}" if records else "where it ends"
        refuse_unlike(digest, f"{file}: {upto}")
        if records:
            yield records, digest


def _score_lines(scorer: Scorer, file: str, said: str, parts: Parts) -> dict[str, Any]:
    counts = {"lines": 0, "responses": 0, "null_scores": 0, "scored_before": 0}
    began = time.perf_counter()
    with Progress() as progress:
        for records, digest in _read_alike(file, said):
            prompts = [prompt_of(record) for record in records]
            responses = [responses_of(record) for record in records]
            count = sum(map(len, responses))
            nulls = first_says(partial(_nulls_before, parts, digest, len(records)))
            before = nulls is not None
            if nulls is not None:
                parts.keep(digest)
                counts["scored_before"] += count
            else:
                scores = scorer.score(prompts, responses, [record.where for record in records])
                lines = zip(records, scores, strict=True)
                made = [json.dumps(line.fields | {"scores": own}) + "\n" for line, own in lines]
                parts.write(digest, "".join(made))
                nulls = sum(own.count(None) for own in scores)
            counts["lines"] += len(records)
            counts["responses"] += count
            counts["null_scores"] += nulls
            progress.add(count, before)
    seconds, shapes = time.perf_counter() - began, scorer.shapes
    if is_first():
        print(
            f"rbs: {shapes.compiled} shapes compiled, at most {shapes.at_most} with a context of "
            f"{scorer.context} tokens and {scorer.most_responses} responses to a prompt",
            file=sys.stderr,
        )
    rate = (counts["responses"] - counts["scored_before"]) / seconds
    return counts | {"responses_per_second": rate, "shapes": shapes._asdict()}


def _nulls_before(parts: Parts, digest: str, lines: int) -> int | None:
    """The null scores of a part that was written before; None without one that is whole.

    A machine that went down may have left a part's name, and not all that it held.
    """
    made = (parts.read(digest) or "").splitlines()
    try:
        nulls = sum(json.loads(line)["scores"].count(None) for line in made)
    except ValueError:
        return None
    return nulls if len(made) == lines else None
