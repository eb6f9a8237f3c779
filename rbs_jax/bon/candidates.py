"""Lines of prompts with their candidates, and what a line says of them beside their texts."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from rbs_jax.data.answers import prompt_of, responses_of
from rbs_jax.data.sources import Record, checked_text
from rbs_jax.digest import digest_of
from rbs_jax.errors import UserError
from rbs_jax.suites.items import Item, id_of, unit_of

LARGEST = 1e30
"""Of a given number: means and squares of larger ones may overflow."""
PerCandidate = Float[np.ndarray, " K"]


class Known(NamedTuple):
    """What is known of a prompt's K candidates beside their texts; None for what is not."""

    correct: PerCandidate | None = None
    """1 for right, 0 for wrong; a share where several things are asked for."""
    answers: list[str | None] | None = None
    """The final answer of each, the same string for the same answer; None for none."""
    gold: PerCandidate | None = None
    """What is wanted and a reward only stands for: a better judge's score, in its unit."""
    logprob: PerCandidate | None = None
    """Mean log-probability of its tokens under the model that drew it [nats]."""
    source: list[str] | None = None
    """Where each comes from, such as the model that drew it."""
    weight: int = 1
    """How often the prompt counts in a mean over prompts."""


def candidates_of(records: Sequence[Record]) -> tuple[list[Item], list[Known]]:
    """Prompts with their responses, and what lines of {"prompt", "responses", ...} know of them.

    "correct", "answers", "gold", "logprob" and "source" are lists of one value a response, each
    absent or null if it is not known. "id" names the prompt in messages.

    Raises:
      UserError: a line lacks a field, or has one of another kind or length, naming it.
    """
    items = [
        Item(id_of(record), "all", prompt_of(record), responses_of(record), 0) for record in records
    ]
    known = [
        known_of(record, len(item.responses)) for record, item in zip(records, items, strict=True)
    ]
    return items, known


def refuse_partly_known(records: Sequence[Record], known: Sequence[Known]) -> None:
    """What only some lines say would be known of none.

    Raises:
      UserError: a line lacks "correct", "answers" or "gold" where another has it.
    """
    for field in ("correct", "answers", "gold"):
        lacks = [getattr(own, field) is None for own in known]
        if any(lacks) and not all(lacks):
            first, other = records[lacks.index(True)], records[lacks.index(False)]
            said = f"no field {field!r}, which {other.where} has; give it in all lines or in none"
            raise UserError(f"{first.where}: {said}")


def labels_of(known: Sequence[Known]) -> str:
    """A digest: of two results with the same one, the same is known of the candidates."""
    return digest_of(json.dumps([own._asdict() for own in known], default=np.ndarray.tolist))


def known_of(record: Record, count: int) -> Known:
    """What a line knows of its candidates.

    Raises:
      UserError: a field is of another kind or length, naming it.
    """
    return Known(
        _numbers(record, "correct", count, _share),
        _list(record, "answers", count, _answer),
        _numbers(record, "gold", count, number_of),
        _numbers(record, "logprob", count, number_of),
        _list(record, "source", count, checked_text),
    )


def _list(
    record: Record, field: str, count: int, checked: Callable[[object, str], Any]
) -> list[Any] | None:
    values = record.fields.get(field)
    if values is None:
        return None
    where = f"{record.where}: field {field!r}"
    if not isinstance(values, list) or len(values) != count:
        said = f"has {len(values)}" if isinstance(values, list) else f"is {type(values).__name__}"
        raise UserError(f"{where} must be a list of {count} values, one a response; it {said}")
    return [checked(value, f"{where}[{at}]") for at, value in enumerate(values)]


def _numbers(
    record: Record, field: str, count: int, checked: Callable[[object, str], float]
) -> PerCandidate | None:
    values = _list(record, field, count, checked)
    return None if values is None else np.array(values, float)


def number_of(value: object, what: str) -> float:
    """The value, if it is a number of ordinary size.

    Raises:
      UserError: it is not, naming `what` it is.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise UserError(f"{what} is {value!r:.40}, not a number from {-LARGEST:g} to {LARGEST:g}")
    return float(value)


def _share(value: object, what: str) -> float:
    if isinstance(value, bool):
        return float(value)
    share = number_of(value, what) if isinstance(value, int | float) else math.nan
    if not 0 <= share <= 1:
        raise UserError(f"{what} is {value!r}, neither true, false nor a share from 0 to 1")
    return share


def _answer(value: object, what: str) -> str | None:
    return None if value is None else checked_text(value, what).strip()


class Pool(NamedTuple):
    """A prompt's K candidates as numbers: all that figures of picking among them hang on."""

    id: str
    prompt: str
    """A digest of it: the pools of one prompt are drawn together by a bootstrap."""
    texts: Sequence[str]
    """A digest of each candidate: copies of one have one score, but for rounding."""
    scores: Float[np.ndarray, "M K"]
    """Rewards by M models, -inf for a candidate that has none."""
    controls: Mapping[str, PerCandidate]
    """Scores to compare with, by name."""
    heads: Sequence[Float[np.ndarray, "M K"]]
    """Rewards by random heads in the place of the models' own."""
    known: Known

    @property
    def size(self) -> int:
        """How many candidates there are."""
        return self.scores.shape[1]

    def only(self, places: Sequence[int]) -> "Pool":
        """The pool of some of its candidates."""
        at = list(places)
        known = self.known
        return self._replace(
            texts=[self.texts[k] for k in at],
            scores=self.scores[:, at],
            controls={name: own[at] for name, own in self.controls.items()},
            heads=[own[:, at] for own in self.heads],
            known=Known(
                None if known.correct is None else known.correct[at],
                None if known.answers is None else [known.answers[k] for k in at],
                None if known.gold is None else known.gold[at],
                None if known.logprob is None else known.logprob[at],
                None if known.source is None else [known.source[k] for k in at],
                known.weight,
            ),
        )


def pools_of(
    items: Sequence[Item],
    known: Sequence[Known],
    scores: Sequence[np.ndarray],
    controls: Mapping[str, Sequence[np.ndarray]],
    heads: Sequence[Sequence[np.ndarray]],
) -> list[Pool]:
    """One model's pools, each list in the order of the items; a score that is NaN is none."""
    return [
        Pool(
            item.id,
            digest_of(unit_of(item.prompt)),
            [digest_of(response) for response in item.responses],
            lost(scores[at])[None],
            {name: lost(own[at]) for name, own in controls.items()},
            [lost(own[at])[None] for own in heads],
            known[at],
        )
        for at, item in enumerate(items)
    ]


def lost(scores: np.ndarray) -> np.ndarray:
    """A candidate without a score stands below all others."""
    return np.where(np.isnan(scores), -np.inf, scores.astype(float))
