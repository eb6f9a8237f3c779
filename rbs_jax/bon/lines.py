"""The lines of scores.jsonl: all numbers of a prompt's candidates, to combine them later."""

import operator
from typing import Any

import numpy as np

from rbs_jax.bon.candidates import Known, Pool
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError

KNOWN = ("correct", "gold", "logprob")
TOLD = ("answers", "source")


def line_of(pool: Pool) -> dict[str, Any]:
    """The line of one model's pool; "chosen" is the place of the first candidate it ranks highest.

    A candidate that has no score has null.
    """
    known = pool.known
    return {
        "id": pool.id,
        "prompt": pool.prompt,
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
        known = Known(
            **{name: _array(fields[name]) for name in KNOWN},
            **{name: fields[name] for name in TOLD},
            weight=operator.index(fields["weight"]),
        )
        if known.weight < 1:
            raise ValueError("a weight below 1")
        scores = _array(fields["scores"])
        if scores is None:
            raise ValueError("no scores")
        controls = {name: _array(own) for name, own in fields["controls"].items()}
        heads = [_array(own) for own in fields["random_heads"]]
        lists = [scores, *controls.values(), *heads, *known[:-1]]
        if len({len(own) for own in lists if own is not None}) != 1:
            raise ValueError("lists of unlike lengths")
        names = str(fields["id"]), str(fields["prompt"])
        return Pool(*names, scores[None], controls, [own[None] for own in heads], known)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"no line of rbs bon ({type(error).__name__}: {error}); run rbs bon again"
        raise UserError(f"{line.where}: {said}") from error


def _listed(values: np.ndarray | None) -> list[float | None] | None:
    if values is None:
        return None
    return [float(value) if np.isfinite(value) else None for value in values]


def _array(values: Any) -> Any:
    if values is None:
        return None
    return np.array([-np.inf if value is None else value for value in values], float)
