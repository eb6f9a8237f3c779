"""The candidates of a prompt, and those that stand in a file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rbs_jax.bon.lines import KNOWN, TOLD
from rbs_jax.data.sources import Record, read_jsonl
from rbs_jax.errors import UserError
from rbs_jax.storage import exists

FIELDS = ("responses", "logprob", "finish", "sampled")
"""What a line has of its candidates."""
LABELS = tuple(name for name in KNOWN + TOLD if name not in FIELDS)
"""What others may have said of a line's candidates."""


class Candidate(NamedTuple):
    """One answer."""

    response: str
    logprob: float | None
    """Mean over the tokens that the server reports [nats]; None where it reports none."""
    finish: str
    """Why it ended: stop, length, or another word of the server's."""


class Drawn(NamedTuple):
    """A prompt's first candidates."""

    responses: list[str]
    logprob: list[float] | None
    """Of each; None if one has none."""
    finish: list[str]

    def first(self, n: int) -> "Drawn":
        """At most n of them."""
        logprob = None if self.logprob is None else self.logprob[:n]
        return Drawn(self.responses[:n], logprob, self.finish[:n])

    def followed_by(self, more: Sequence[Candidate]) -> "Drawn":
        """These and the next ones."""
        known = [one.logprob for one in more if one.logprob is not None]
        some_lack = self.logprob is None or len(known) < len(more)
        return Drawn(
            self.responses + [one.response for one in more],
            None if some_lack else [*(self.logprob or ()), *known],
            self.finish + [one.finish for one in more],
        )

    def fields(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """As a line has them."""
        return self._asdict() | {"sampled": sampled}


NONE = Drawn([], [], [])


def parsed(text: str | None) -> Drawn | None:
    """What a part holds; None without one that is whole.

    A machine that went down may have left a part's name, and not all that it held.
    """
    try:
        return drawn_in(json.loads(text or ""))
    except ValueError:
        return None


def drawn_in(fields: Any) -> Drawn:
    """What a line holds.

    Raises:
      ValueError: it is none of --sample's, naming the field.
    """
    if not isinstance(fields, dict):
        raise ValueError("is no line of fields")
    responses = fields.get("responses")
    count = len(responses) if isinstance(responses, list) else 0
    for name, kind in (("responses", str), ("logprob", int | float), ("finish", str)):
        own = fields.get(name, "absent")
        if name == "logprob" and own is None:
            continue
        if not isinstance(own, list) or not all(isinstance(one, kind) for one in own):
            raise ValueError(f"{name!r} is no list of what --sample writes")
        if len(own) != count:
            raise ValueError(f"{name!r} has {len(own)} values, not {count} as 'responses'")
    return Drawn(*(fields[name] for name in Drawn._fields))


def name_of(record: Record, place: int) -> object:
    """What decides a prompt's seeds beside its text: its id, or else its place from 0."""
    name = record.fields.get("id")
    return place if name is None else name


def lines_before(
    out: str, records: Sequence[Record], sampled: Mapping[str, Any]
) -> list[dict[str, Any]] | None:
    """The lines that an earlier command has made of the same prompts; None without an `out`.

    Their own fields, such as an answer to check by, may have been others than the records' are.

    Args:
      out: what it wrote.
      records: the prompts.
      sampled: what decides their candidates; what is not named may be anything.

    Raises:
      UserError: `out` holds other prompts, candidates drawn in another way, or lines that
        somebody has changed.
    """
    if not exists(out):
        return None
    lines = list(read_jsonl(out))
    if len(lines) != len(records):
        raise _other(out, f"has {len(lines)} prompts, not {len(records)}")
    for place, (line, record) in enumerate(zip(lines, records, strict=True)):
        before = line.fields.get("sampled")
        if not isinstance(before, dict):
            raise _other(line.where, "was not drawn with --sample")
        asked, now = (
            json.dumps([name_of(own, place), own.fields.get("prompt")]) for own in (line, record)
        )
        if asked != now:
            raise _other(line.where, f"its prompt or id is not what {record.where} has now")
        for name, value in sampled.items():
            if before.get(name) != value:
                raise _other(line.where, f"was drawn with {name} {before.get(name)}, not {value}")
        _refuse_changed(line)
    return [line.fields for line in lines]


def _refuse_changed(line: Record) -> None:
    try:
        drawn_in(line.fields)
    except ValueError as error:
        raise UserError(f"{line.where}: {error}; mend the line, or give another --out") from error
    for name in LABELS:
        if name in line.fields:
            raise UserError(
                f"{line.where}: has {name!r}, which --sample has not written and would lose; give "
                "this file as FILE without --sample, or another --out"
            )


def _other(where: str, said: str) -> UserError:
    return UserError(f"{where}: {said}; give another --out, or the same file and settings")
