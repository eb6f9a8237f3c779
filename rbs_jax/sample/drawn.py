"""The candidates of a prompt, and those that stand in a file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rbs_jax.data.sources import Record, read_jsonl
from rbs_jax.errors import UserError
from rbs_jax.storage import exists

FIELDS = ("responses", "logprob", "finish", "sampled")
"""What a line has of its candidates."""


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
        return _drawn_in(json.loads(text or ""))
    except ValueError:
        return None


def drawn_before(
    out: str, records: Sequence[Record], sampled: Mapping[str, Any]
) -> list[Drawn] | None:
    """What an earlier command has drawn for the same prompts; None without an `out`.

    Args:
      out: what it wrote.
      records: the prompts.
      sampled: what decides their candidates; what is not named may be anything.

    Raises:
      UserError: `out` holds other lines, or candidates drawn in another way.
    """
    if not exists(out):
        return None
    lines = list(read_jsonl(out))
    if len(lines) != len(records):
        raise _other(out, f"has {len(lines)} prompts, not {len(records)}")
    for line, record in zip(lines, records, strict=True):
        before = line.fields.get("sampled")
        if not isinstance(before, dict):
            raise _other(line.where, "was not drawn with --sample")
        asked = {name: value for name, value in line.fields.items() if name not in FIELDS}
        if json.dumps(asked) != json.dumps(record.fields):  # NaN is not itself
            raise _other(line.where, f"is not what {record.where} is now")
        for name, value in sampled.items():
            if before.get(name) != value:
                raise _other(line.where, f"was drawn with {name} {before.get(name)}, not {value}")
    return [_drawn_in(line.fields) for line in lines]


def _drawn_in(fields: Any) -> Drawn:
    return Drawn(*(fields[name] for name in Drawn._fields))


def _other(where: str, said: str) -> UserError:
    return UserError(f"{where}: {said}; give another --out, or the same file and settings")
