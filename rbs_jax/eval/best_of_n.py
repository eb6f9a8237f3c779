"""`rbs bon MODEL FILE`: what it is worth to pick the best of N candidates by a reward."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from rbs_jax.bon.candidates import (
    Known,
    Pool,
    candidates_of,
    labels_of,
    pools_of,
    refuse_partly_known,
)
from rbs_jax.bon.figures import figures
from rbs_jax.bon.lines import chosen, line_of
from rbs_jax.checkers.checked import check_all
from rbs_jax.checkers.checker import Verdict
from rbs_jax.checkers.table import CHECKERS, find_checker
from rbs_jax.choose.table import RULES
from rbs_jax.data.sources import Record, read_jsonl
from rbs_jax.data.template import Form
from rbs_jax.errors import UserError
from rbs_jax.eval.benchmark import digest
from rbs_jax.eval.controls import language_model_of
from rbs_jax.eval.results import refuse_other_result, refuse_unwritable_folder, write_result
from rbs_jax.eval.scored import score_beside_controls
from rbs_jax.hosts.together import first_says, refuse_unlike
from rbs_jax.sample.candidates import sample
from rbs_jax.sample.config import SampleConfig
from rbs_jax.score.progress import Progress
from rbs_jax.storage import exists
from rbs_jax.suites.items import Item
from rbs_jax.train.models import find_model

ARGMAX = "mean"
"""Of one model."""


def best_of_n(
    model: str,
    file: str,
    out: str,
    checker: str | None = None,
    server: str | None = None,
    sampling: SampleConfig | None = None,
    language_model: str | None = None,
    form: Form | None = None,
    close: bool | None = None,
) -> dict[str, Any]:
    """Score the candidates of every prompt and measure what picking by the scores is worth.

    Writes OUT/result.json, which it returns; scores.jsonl, all numbers of every candidate, for
    `rbs combine`; best.jsonl, the response of the highest score to each prompt; and with a server
    candidates.jsonl, what it answered. Of several processes each reads the file, all score it
    together, and process 0 writes.

    Args:
      model: a MODEL.
      file: lines of {"prompt", "responses", ...}, by path or URL; with a server of {"prompt", ...}.
      out: folder for the results, a path or URL.
      checker: what decides whether a response is right: a name in CHECKERS, or module:function.
        None for the lines' "correct", if they have it.
      server: the URL of a server to draw candidates from.
      sampling: how to draw them; None for the defaults.
      language_model: a MODEL whose likelihoods are a control; None for the one that the model
        started from, if it was one.
      form: how prompt and response become one text; None as in training.
      close: whether what ends the response's turn is part of it; None as in training.

    Raises:
      UserError: no such model or file, a line that is not as it should be, a server that does not
        answer, or `out` holds something else.
    """
    first_says(lambda: refuse_other_result(out, "rm", "rule"))
    first_says(lambda: refuse_unwritable_folder(out))
    records = _read(file)
    # What is wrong is told before a server is asked for much.
    language_model_of(find_model(model), language_model)
    if checker is not None:
        find_checker(checker)
    if server is not None:
        if checker in CHECKERS:  # a function of the user's need not take just any response
            _verdicts(checker, records, [[""]] * len(records))
        drawn = f"{out}/candidates.jsonl"
        sample(records, server, drawn, sampling or SampleConfig())
        records = _read(drawn)
    items, known = candidates_of(records)
    if checker is not None:
        known = _checked(checker, records, items, known)
    refuse_partly_known(records, known)
    scored = score_beside_controls(items, out, model, language_model, form, close)
    pools = pools_of(items, known, scored.ours, scored.controls, scored.heads)
    result = {
        "file": file,
        "candidates": digest(items),
        "labels": labels_of(known),
        "checker": checker,
        "responses": sum(len(item.responses) for item in items),
        **scored.about,
        **figures(pools, RULES[ARGMAX]),
    }
    lines = [json.dumps(line) + "\n" for line in _best(items, pools)]
    write_result(out, result, map(line_of, pools), {"best.jsonl": "".join(lines)})
    return result


def _read(file: str) -> list[Record]:
    """The lines, the same in every process."""
    if not exists(file):
        raise UserError(f"{file}: no such file")
    records = list(read_jsonl(file))
    if not records:
        raise UserError(f"{file}: holds no line")
    said = json.dumps([record.fields for record in records])
    refuse_unlike(hashlib.sha256(said.encode()).hexdigest(), file)
    return records


def _checked(
    checker: str, records: Sequence[Record], items: Sequence[Item], known: Sequence[Known]
) -> list[Known]:
    """What the checker says takes the place of what the lines say."""
    verdicts = _verdicts(checker, records, [item.responses for item in items])
    weight = find_checker(checker).weight
    answers_at_all = any(answer is not None for own in verdicts for _, answer in own)
    checked = []
    for record, own, of_item in zip(records, known, verdicts, strict=True):
        answers = [answer for _, answer in of_item]
        checked.append(
            own._replace(
                correct=np.array([right for right, _ in of_item], float),
                answers=answers if answers_at_all else own.answers,
                weight=weight(record.fields),
            )
        )
    return checked


def _verdicts(
    checker: str, records: Sequence[Record], responses: Sequence[Sequence[str]]
) -> list[list[Verdict]]:
    def check() -> list[list[Verdict]]:
        with Progress("checks", sum(map(len, responses))) as progress:
            return check_all(checker, records, responses, partial(progress.add, before=False))

    return first_says(check)


def _best(items: Sequence[Item], pools: Sequence[Pool]) -> Iterator[dict[str, Any]]:
    """A prompt none of whose candidates has a score has no line."""
    for item, pool in zip(items, pools, strict=True):
        at = chosen(pool) if pool.size else None
        if at is not None:
            score = float(pool.scores[0, at])
            best = {"response": item.responses[at], "score": score}
            yield {"id": item.id, "prompt": item.prompt} | best
