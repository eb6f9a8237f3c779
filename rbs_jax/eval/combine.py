"""`rbs combine`: one choice by the scores that several models gave before, without running one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbs_jax.bon.candidates import Pool
from rbs_jax.bon.curves import seed_of
from rbs_jax.bon.figures import figures
from rbs_jax.bon.lines import line_of, pool_of
from rbs_jax.choose.rule import Rule, scored
from rbs_jax.choose.table import RULES
from rbs_jax.data.sources import read_jsonl
from rbs_jax.errors import UserError
from rbs_jax.eval.compare import result_of_picking
from rbs_jax.eval.results import SCORES, refuse_other_result, write_result
from rbs_jax.remote import is_remote

CHOSEN = "chosen.jsonl"
KEPT = ("file", "candidates", "labels", "checker", "responses", "language_model")
"""What is the first folder's."""


def combine(folders: Sequence[str], rule: str, out: str, whiten: bool = False) -> dict[str, Any]:
    """Measure a rule on the scores that `rbs bon` kept; writes and returns OUT/result.json.

    Beside it chosen.jsonl has the candidate that the rule picks of each prompt's, and scores.jsonl
    its value of each candidate, where it gives one.

    The random heads go through the same rule, each model's first with the others' first and so on;
    all other controls, and what is known of the candidates, are the first folder's.

    Args:
      folders: of results of `rbs bon` on the same candidates, paths or URLs.
      rule: a name in RULES.
      out: folder for the results, a path or URL.
      whiten: divide each model's scores, less their mean, by their standard deviation over all
        candidates first: models of other scales would else count by their scale.

    Raises:
      UserError: a folder holds no such result, or one of other candidates.
    """
    refuse_other_result(out, "rule")
    if not is_remote(out) and Path(out).resolve() in [Path(own).resolve() for own in folders]:
        raise UserError(f"{out}: is one of the folders to combine; give another --out")
    found = [result_of_picking(folder) for folder in folders]
    for folder, fields in zip(folders, found, strict=True):
        if fields["candidates"] != found[0]["candidates"]:
            raise UserError(f"{folder}: is of other candidates than {folders[0]}")
    each = [[pool_of(line) for line in read_jsonl(f"{folder}/{SCORES}")] for folder in folders]
    for folder, pools in zip(folders, each, strict=True):
        _refuse_unlike(folder, pools, folders[0], each[0])
    if whiten:
        each = [_whitened(pools) for pools in each]
    pools = [_together(own) for own in zip(*each, strict=True)]
    names = [fields["model"] for fields in found]
    result = {
        "model": f"{rule} of {', '.join(names)}",
        "rule": rule,
        "models": names,
        "folders": list(folders),
        "whitened": whiten,
        **{name: found[0][name] for name in KEPT},
        "unscored": int(sum(np.isneginf(pool.scores).any(axis=0).sum() for pool in pools)),
        **figures(pools, RULES[rule]),
    }
    values = RULES[rule].values
    lines = None
    if values is not None:
        lines = [
            line_of(
                pool._replace(
                    scores=values(pool.scores)[None],
                    heads=[values(own)[None] for own in pool.heads],
                )
            )
            for pool in pools
        ]
    picks = [json.dumps(_pick(RULES[rule], pool)) + "\n" for pool in pools]
    write_result(out, result, lines, {CHOSEN: "".join(picks)})
    return result


def _pick(rule: Rule, pool: Pool) -> dict[str, Any]:
    """The candidate that has the highest chance of all, the first of equals; null without any."""
    found = {"id": pool.id, "chosen": None, "chance": None}
    if not scored(pool.scores).any():
        return found
    choice = rule.choose(pool.scores, np.random.default_rng(seed_of(pool)))
    return found | {"chosen": int(choice.argmax()), "chance": float(choice.max())}


def _refuse_unlike(
    folder: str, pools: Sequence[Pool], first: str, of_first: Sequence[Pool]
) -> None:
    """Lines of the same candidates, of which the same is known, stand side by side."""
    if len(pools) != len(of_first):
        said = f"has {len(pools)} lines, {first} has {len(of_first)}; run rbs bon again"
        raise UserError(f"{folder}/{SCORES}: {said}")
    for at, (own, other) in enumerate(zip(pools, of_first, strict=True), start=1):
        where = f"{folder}/{SCORES}: line {at}"
        if _shape(own) != _shape(other):
            raise UserError(f"{where}: is of other candidates than in {first}; run rbs bon again")
        for name, value in own.known._asdict().items():
            if not np.array_equal(value, getattr(other.known, name)):
                said = f"{name} is not as in {first}; run rbs bon with the same lines and --checker"
                raise UserError(f"{where}: {said}")


def _shape(pool: Pool) -> tuple[str, list[str], int, list[str]]:
    return pool.prompt, list(pool.texts), len(pool.heads), sorted(pool.controls)


def _together(own: Sequence[Pool]) -> Pool:
    """The pool of all models."""
    first = own[0]
    heads = [np.concatenate(of_head) for of_head in zip(*(p.heads for p in own), strict=True)]
    return first._replace(scores=np.concatenate([pool.scores for pool in own]), heads=heads)


def _whitened(pools: Sequence[Pool]) -> list[Pool]:
    def by(scale: tuple[float, float], scores: np.ndarray) -> np.ndarray:
        return (scores - scale[0]) / scale[1]

    ours = _scale([pool.scores for pool in pools])
    heads = [_scale(own) for own in zip(*(pool.heads for pool in pools), strict=True)]
    return [
        pool._replace(
            scores=by(ours, pool.scores),
            heads=[by(scale, own) for scale, own in zip(heads, pool.heads, strict=True)],
        )
        for pool in pools
    ]


def _scale(scores: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of all scores that there are."""
    there = np.concatenate([own[np.isfinite(own)] for own in scores] or [np.zeros(0)])
    return (float(there.mean()), float(there.std()) or 1.0) if len(there) else (0.0, 1.0)
