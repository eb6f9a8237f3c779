"""`rbs eval MODEL SUITE`: a model on a benchmark, every figure beside its controls."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.template import Form
from rbs_jax.digest import digest_of
from rbs_jax.errors import UserError
from rbs_jax.eval.analysis import analysis
from rbs_jax.eval.results import refuse_other_result, refuse_unwritable_folder, write_result
from rbs_jax.eval.scored import score_beside_controls
from rbs_jax.files import json_text
from rbs_jax.hosts.together import first_says, refuse_unlike
from rbs_jax.score.scorer import Scorer
from rbs_jax.statistics.figures import interval_of, mean, resampled
from rbs_jax.storage import exists
from rbs_jax.suites.controlled import beside_controls, judge_all
from rbs_jax.suites.items import Item, Scores, unit_of
from rbs_jax.suites.rewardbench_files import LAYOUTS
from rbs_jax.suites.suite import Judged
from rbs_jax.suites.table import SUITES
from rbs_jax.train.models import LoadedModel
from rbs_jax.train.watch import Measured, Watch


def evaluate(
    model: str,
    suite: str,
    data: str,
    out: str,
    language_model: str | None = None,
    form: Form | None = None,
    close: bool | None = None,
) -> dict[str, Any]:
    """Measure a reward model on a benchmark; writes and returns OUT/result.json.

    Beside it scores.jsonl holds the scores of every item, and for RewardBench there are the files
    that its own tools write. Of several processes each reads the data, all score it together, and
    process 0 writes.

    Args:
      model: a MODEL.
      suite: a name in SUITES.
      data: its publisher's file or folder, a path or URL.
      out: folder for the results, a path or URL.
      language_model: a MODEL whose likelihoods are a control; None for the one that the model
        started from, if it was one.
      form: how prompt and response become one text; None as in training.
      close: whether what ends the response's turn is part of it; None as in training.

    Raises:
      UserError: no such model or data, a row that is not as it should be, or `out` holds
        something else.
    """
    first_says(lambda: refuse_other_result(out))
    items = read_items(suite, data)
    first_says(lambda: refuse_unwritable_folder(out))
    scored = score_beside_controls(items, out, model, language_model, form, close)
    ours, about = scored.ours, scored.about
    named = {"model": ours} | scored.controls
    judged, each_head = judge_all(SUITES[suite], items, named, scored.heads)
    own = judged.pop("model")
    result = {
        "suite": suite,
        "data": data,
        "items": digest(items),
        **about,
        **beside_controls(SUITES[suite], items, own, judged, each_head),
        **analysis(items, ours),
    }
    others = {}
    if suite in LAYOUTS:
        how = {"chat_template": about["template"]["form"], "max_length": about["max_length"]}
        name = about["model"].rpartition("/")[2]
        files = LAYOUTS[suite](name, items, ours, own, how)
        others = {file: json_text(dict(fields)) for file, fields in files.items()}
    write_result(out, result, lines(items, ours, own), others)
    return result


def read_items(suite: str, data: str) -> list[Item]:
    """The items of a benchmark, the same in every process.

    Raises:
      UserError: they cannot be read, or there are none.
    """
    if not exists(data):
        raise UserError(f"{data}: no such file or folder; {suite}: {SUITES[suite].where}")
    items = SUITES[suite].read(data)
    refuse_unlike(digest(items), data)
    if not items:
        raise UserError(f"{data}: holds no row that counts")
    return items


def digest(items: Sequence[Item]) -> str:
    """What two results share that are of the same items, wherever those were read from."""
    told = [item._replace(id="") for item in items]  # which may be where the row stands
    return digest_of(json.dumps(told))


def lines(items: Sequence[Item], scores: Scores, judged: Judged) -> Iterator[dict[str, Any]]:
    """What scores.jsonl says of each item; the right responses' scores come first."""
    for item, own, value in zip(items, scores, judged.values, strict=True):
        yield {
            "id": item.id,
            "subset": item.subset,
            "prompt": digest_of(unit_of(item.prompt)),
            "right": item.right,
            "value": None if np.isnan(value) else float(value),
            "scores": [None if np.isnan(score) else float(score) for score in own],
        }


def watched(named: Sequence[str], every: int) -> Watch:
    """Benchmarks to measure while a run trains: their headlines, without controls.

    Args:
      named: SUITE=PATH each.
      every: steps between measurements.

    Raises:
      UserError: no such suite, none with a headline, or its data cannot be read.
    """
    items = {}
    for name in named:
        suite, _, path = name.partition("=")
        if suite in items:
            raise UserError(f"--suites {name}: {suite} is there before; one file of a suite")
        if suite not in SUITES or not path:
            raise UserError(f"--suites {name}: give SUITE=PATH, SUITE one of {', '.join(SUITES)}")
        items[suite] = read_items(suite, path)
        if not SUITES[suite].averages(items[suite]):
            raise UserError(f"--suites {name}: {suite} has no accuracy to follow")

    def measure(loaded: LoadedModel, mesh: Mesh) -> Measured:
        scorer, measured = Scorer(loaded, mesh), {}
        for suite, own in items.items():
            scores = scorer.score([i.prompt for i in own], [i.responses for i in own])
            judged = SUITES[suite].judge(own, [np.array(each, float) for each in scores])
            weights = next(iter(SUITES[suite].averages(own).values()))
            measured[suite] = {
                "n": len(own),
                "accuracy": mean(judged.groups, weights),
                "ci95": interval_of(judged.groups, resampled(judged.groups), weights),
            }
        return measured

    return Watch({suite: digest(own) for suite, own in items.items()}, every, measure)
