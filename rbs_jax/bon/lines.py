"""The lines of scores.jsonl: all numbers of a prompt's candidates, to combine them later."""

import operator
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rbs_jax.bon.candidates import Pool, known_of, number_of
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError

KNOWN = ("correct", "gold", "logprob")
TOLD = ("answers", "source")
DIGEST = re.compile("[0-9a-f]{16}")


def line_of(pool: Pool) -> dict[str, Any]:
    """The line of one model's pool; "chosen" is the place of the first candidate it ranks highest.

    A candidate that has no score has null.
    """
    known = pool.known
    return {
        "id": pool.id,
        "prompt": pool.prompt,
        "texts": pool.texts,
        "chosen": chosen(pool),
        "scores": _listed(pool.scores[0]),
        "controls": {name: _listed(own) for name, own in pool.controls.items()},
        "random_heads": [_listed(own[0]) for own in pool.heads],
        **{name: _listed(getattr(known, name)) for name in KNOWN},
        **{name: getattr(known, name) for name in TOLD},
        "weight": known.weight,
    }


def chosen(pool: Pool) -> int | None:
    """The place of the first of the highest score; None where there is no score at all."""
    scores = pool.scores[0]
    return int(scores.argmax()) if np.isfinite(scores).any() else None


def pool_of(line: Record) -> Pool:
    """The pool that a line tells of.

    Raises:
      UserError: it is no such line.
    """
    fields: dict[str, Any] = line.fields
    try:
        scores, heads = fields["scores"], fields["random_heads"]
        numbers = {"scores": scores, **fields["controls"]}
        numbers |= {f"random_heads[{at}]": own for at, own in enumerate(heads)}
        texts = list(fields["texts"])
        if {len(own) for own in numbers.values()} != {len(texts)}:
            raise ValueError("lists of unlike lengths")
        if not all(DIGEST.fullmatch(own) for own in (fields["prompt"], *texts)):
            raise ValueError("no digest of a prompt or text")
        weight = operator.index(fields["weight"])
        if weight < 1:
            raise ValueError("a weight below 1")
        name = str(fields["id"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"no line of rbs bon ({type(error).__name__}: {error}); run rbs bon again"
        raise UserError(f"{line.where}: {said}") from error
    read = {key: _scores(own, f"{line.where}: {key}") for key, own in numbers.items()}
    return Pool(
        name,
        fields["prompt"],
        texts,
        read["scores"][None],
        {key: read[key] for key in fields["controls"]},
        [read[f"random_heads[{at}]"][None] for at in range(len(heads))],
        known_of(line, len(scores))._replace(weight=weight),
    )


def _listed(values: np.ndarray | None) -> list[float | None] | None:
    if values is None:
        return None
    return [float(value) if np.isfinite(value) else None for value in values]


def _scores(values: Sequence[object], what: str) -> np.ndarray:
    """Null is none."""
    numbers = (-np.inf if value is None else number_of(value, what) for value in values)
    return np.array(list(numbers), float)
