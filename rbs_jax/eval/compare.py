"""Results side by side: what two models do differently on the same items."""

import json
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rbs_jax.errors import UserError
from rbs_jax.eval.results import RESULT, SCORES
from rbs_jax.statistics.distance import distance
from rbs_jax.statistics.sign_test import holm, sign_test
from rbs_jax.storage import read_text

NEEDED = ("suite", "model", "n", "accuracy", "ci95", "controls")
OF_A_BENCHMARK = (
    *("averages", "subsets", "length", "calibration", "reward_variance", "prompts", "unscored"),
    *("data", "template", "max_length", "dtype", "random_heads_on", "language_model"),
)
"""What the page reads of a result."""
OF_PICKING = (
    *("model", "file", "candidates", "labels", "checker", "responses", "unscored"),
    *("language_model", "n", "prompts", "prompts_in_all", "mixed", "kl_upper_bound", "map"),
    *("overoptimisation", "oracle", "random", "logp", "majority", "weighted_majority", "controls"),
    *("above_random", "above_random_ci95", "above_random_p", "rm_ci95", "inside_controls"),
)
WRITERS = "rbs eval, rbs bon, rbs combine, rbs train"


class Result(NamedTuple):
    """What `rbs eval` wrote to a folder."""

    name: str
    """Of the model, and of the folder where one model has several results of a suite."""
    fields: dict[str, Any]
    items: list[dict[str, Any]]
    """The lines of scores.jsonl; none of a heldout result."""


class Picked(NamedTuple):
    """What `rbs bon` or `rbs combine` wrote to a folder."""

    name: str
    fields: dict[str, Any]


class Run(NamedTuple):
    """What `rbs train` wrote to a folder."""

    name: str
    fields: dict[str, Any]
    metrics: list[dict[str, Any]]


def read_folders(folders: Sequence[str]) -> tuple[list[Result], list[Picked], list[Run]]:
    """The results and runs that folders hold.

    Raises:
      UserError: a folder holds neither, or a file is broken.
    """
    results, picked, runs = [], [], []
    for folder in folders:
        metrics = _lines(f"{folder}/metrics.jsonl")
        text = read_text(f"{folder}/{RESULT}")
        if text is None and not metrics:
            said = f"no such file; give folders that {WRITERS} wrote"
            raise UserError(f"{folder}/{RESULT}: {said}")
        fields = {} if text is None else _object(text, f"{folder}/{RESULT}")
        if "suite" in fields:
            results.append((folder, _result(folder, fields)))
        elif "rm" in fields:
            picked.append((folder, Picked(str(fields.get("model")), _picked(folder, fields))))
        elif "checkpoint" in fields or metrics:
            runs.append(Run(folder, fields, metrics))
        else:
            raise UserError(f"{folder}/{RESULT}: of none of {WRITERS}")
    return (
        _told_apart(results, lambda result: (result.fields["suite"], result.name)),
        _told_apart(picked, lambda each: (each.fields["candidates"], each.name)),
        runs,
    )


def result_of_picking(folder: str) -> dict[str, Any]:
    """What `rbs bon` wrote.

    Raises:
      UserError: it did not.
    """
    text = read_text(f"{folder}/{RESULT}")
    fields = {} if text is None else _object(text, f"{folder}/{RESULT}")
    if "rm" not in fields:
        raise UserError(f"{folder}/{RESULT}: no result of rbs bon")
    return _picked(folder, fields)


def _picked(folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Raises UserError where it lacks what the page shows."""
    for name in OF_PICKING:
        if name not in fields:
            raise UserError(f"{folder}/{RESULT}: has no {name!r}; run rbs bon again")
    if not isinstance(fields["model"], str):
        raise UserError(f"{folder}/{RESULT}: 'model' is no string; run rbs bon again")
    return fields


Named = TypeVar("Named", Result, Picked)


def _told_apart(
    placed: Sequence[tuple[str, Named]], by: Callable[[Named], tuple[str, str]]
) -> list[Named]:
    """A name that several have gets its folder beside it."""
    named = [by(each) for _, each in placed]
    return [
        each._replace(name=f"{each.name} ({folder})") if named.count(by(each)) > 1 else each
        for folder, each in placed
    ]


def _result(folder: str, fields: dict[str, Any]) -> Result:
    """Raises UserError where it lacks what the page shows, or its scores are not of its items."""
    needed = [*NEEDED, *(OF_A_BENCHMARK if "items" in fields else ())]
    for name in needed:
        if name not in fields:
            raise UserError(f"{folder}/{RESULT}: has no {name!r}; run rbs eval again")
    items = _lines(f"{folder}/{SCORES}") if "items" in fields else []
    for number, item in enumerate(items, start=1):
        for name in ("id", "prompt", "value", "scores"):
            if name not in item:
                raise UserError(f"{folder}/{SCORES}: item {number} has no {name!r}")
    if items and len(items) != fields["n"]:
        said = f"holds {len(items)} items, {RESULT} tells of {fields['n']}; run rbs eval again"
        raise UserError(f"{folder}/{SCORES}: {said}")
    return Result(str(fields["model"]), fields, items)


def _lines(path: str) -> list[dict[str, Any]]:
    """The objects of whole lines, none without a file; a kill may cut the last of metrics.jsonl."""
    *lines, _ = (read_text(path) or "").split("\n")
    return [_object(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line]


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def compare(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Every two results of a suite on the same items.

    Prompts are what the sign test counts: a prompt of several items by its items' mean value,
    since they are no independent tries.

    Returns:
      for each pair "suite", "models" (two names), "wins", "losses" and "ties" of the first,
      "p", "p_holm" (corrected over all pairs and suites here) and "distance" (`distance` of
      their rewards; None where none is defined).
    """
    found = []
    for one, other in combinations(results, 2):
        same = one.fields["suite"] == other.fields["suite"] and one.items and other.items
        if not same or one.fields.get("items") != other.fields.get("items"):
            continue
        ours, theirs = _by_prompt(one), _by_prompt(other)
        test = sign_test(ours, theirs)
        prompts = np.repeat(_prompts(one), [len(item["scores"]) for item in one.items])
        apart = distance(_scores(one), _scores(other), prompts)
        found.append(
            {"suite": one.fields["suite"], "models": [one.name, other.name]}
            | test._asdict()
            | {"distance": apart.distance}
        )
    adjusted = holm([each["p"] for each in found])
    return [each | {"p_holm": p} for each, p in zip(found, adjusted, strict=True)]


def _prompts(result: Result) -> np.ndarray:
    return np.unique([item["prompt"] for item in result.items], return_inverse=True)[1]


def _by_prompt(result: Result) -> np.ndarray:
    of = _prompts(result)
    values = np.array([item["value"] for item in result.items], float)
    means = np.bincount(of, values) / np.bincount(of)
    return means[np.isfinite(means)]  # responses of which none is right have no value


def _scores(result: Result) -> np.ndarray:
    return np.concatenate([np.array(item["scores"], float) for item in result.items])
