"""Prompts in, the same lines with candidates out."""

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record
from rbs_jax.data.template import Prompt
from rbs_jax.digest import digest_of
from rbs_jax.errors import UserError
from rbs_jax.hosts.together import first_says, number
from rbs_jax.sample.config import SampleConfig
from rbs_jax.sample.crew import Crew
from rbs_jax.sample.drawn import (
    FIELDS,
    LABELS,
    NONE,
    Candidate,
    Drawn,
    drawn_in,
    lines_before,
    name_of,
    parsed,
)
from rbs_jax.score.parts import Parts, begun
from rbs_jax.score.progress import Progress

AHEAD = 8
"""Candidates asked for, of those under way, before the oldest prompt has all of its own."""


def sample(records: Sequence[Record], url: str, out: str, config: SampleConfig) -> None:
    """Draw candidates for every prompt from a server; `out` appears once it is whole.

    Each line comes out with its own fields and

    - responses: n strings; "" for an answer without text, such as a refusal.
    - logprob: n floats, the mean log-probability of a response's tokens as the server
      reports them [nats]; null if it lacks any.
    - finish: n words of why it ended, such as stop or length.
    - sampled: the actor and what else decides its candidates.

    The same call goes on with what a stopped one has drawn; an `out` that it has made is
    taken as it is, extended where n has grown, and given the fields that the records have now.

    Args:
      records: lines with a `prompt`, a string or messages.
      url: of the server, with /v1.
      out: where to, a path or URL.
      config: how to draw.

    Raises:
      UserError: a line cannot be asked, the server refuses or does not answer, `out` holds
        other candidates or cannot be written, or there are several processes.
    """
    for record in records:
        _refuse_unaskable(record, config)
    if first_says(lambda: _is_whole(out, records, config)):
        return
    if number() > 1:
        raise UserError(
            f"{out}: is not there yet, and candidates are drawn by one process: run this with "
            f"--sample on one machine first, then give {out} as FILE to all"
        )
    try:
        from rbs_jax.sample.server import Server
    except ImportError as error:
        raise UserError(f"--sample: {error}; give `pip install 'rbs_jax[sample]'`") from error
    with Server(url, config) as server:
        model = config.actor or server.only_model()
        sampled = _deciding(config, model)
        lines = lines_before(out, records, sampled)
        before = [NONE] * len(records) if lines is None else [drawn_in(line) for line in lines]
        with (
            begun(out) as parts,
            Crew(config.at_once) as crew,
            Progress("candidates", len(records) * config.n) as progress,
        ):
            draw = partial(server.draw, model)
            _Drawing(draw, config, sampled, parts, crew, progress).all(records, before)


def _refuse_unaskable(record: Record, config: SampleConfig) -> None:
    prompt = prompt_of(record)
    if config.endpoint == "completions" and not isinstance(prompt, str):
        raise UserError(
            f"{record.where}: the prompt is a list of messages, which needs "
            "--sampling.endpoint chat"
        )
    for field in FIELDS + LABELS:
        if field in record.fields:
            raise UserError(
                f"{record.where}: has {field!r} already, a field of candidates; leave --sample "
                "away, or take out what belongs to others"
            )


def _deciding(config: SampleConfig, model: str | None) -> dict[str, Any]:
    """What decides a candidate, beside prompt, place and number; without an unknown model."""
    names = ("endpoint", "temperature", "top_p", "max_tokens", "seed")
    named = {} if model is None else {"model": model}
    return named | {name: getattr(config, name) for name in names}


def _is_whole(out: str, records: Sequence[Record], config: SampleConfig) -> bool:
    """Whether `out` has all candidates; its lines then have the records' fields."""
    lines = lines_before(out, records, _deciding(config, config.actor))
    if lines is None:
        return False
    counts = [len(line["responses"]) for line in lines]
    most = max(counts, default=0)
    if most > config.n:
        raise UserError(
            f"{out}: has {most} candidates a prompt, not {config.n}; give --sampling.n {most}, or "
            "another --out"
        )
    if any(count < config.n for count in counts):
        return False
    made = [
        record.fields | {name: line[name] for name in FIELDS}
        for record, line in zip(records, lines, strict=True)
    ]
    if json.dumps(made) != json.dumps(lines):
        with begun(out) as parts:
            parts.write(_digest(made), "".join(json.dumps(line) + "\n" for line in made))
    return True


def seed_of(seed: int, name: object, prompt: object, k: int) -> int:
    """The seed of a prompt's candidate number k.

    Args:
      seed: of all candidates.
      name: the prompt's id, or its place among the prompts.
      prompt: its text or messages.
      k: from 0.

    Returns:
      At least 0 and below 2^31, which every server takes.
    """
    text = json.dumps([seed, name, prompt, k])
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) >> 1


def _digest(what: object) -> str:
    return digest_of(json.dumps(what))


class _Line(NamedTuple):
    """A prompt whose candidates are asked for."""

    record: Record
    digest: str
    there: Drawn
    """Its first candidates, drawn before."""
    part: str | None
    """What an earlier command has left of it."""
    asked: list[Future[Candidate]]
    """The others."""


class _Drawing(NamedTuple):
    draw: Callable[[Prompt, int, str], Candidate]
    """From prompt, seed and the prompt's place."""
    config: SampleConfig
    sampled: dict[str, Any]
    parts: Parts
    crew: Crew
    progress: Progress

    def all(self, records: Sequence[Record], before: Sequence[Drawn]) -> None:
        """Draw what is not there, of many prompts at once, and write lines in order."""
        most = 1 + math.ceil(AHEAD * self.config.at_once / self.config.n)
        waiting = deque[_Line]()
        for place, (record, there) in enumerate(zip(records, before, strict=True)):
            if len(waiting) == most:
                self._finish(waiting.popleft())
            waiting.append(self._begin(place, record, there, len(waiting)))
        while waiting:
            self._finish(waiting.popleft())

    def _begin(self, place: int, record: Record, there: Drawn, ahead: int) -> _Line:
        """Ask for the candidates that are not there."""
        prompt, name, n = prompt_of(record), name_of(record, place), self.config.n
        digest = _digest([prompt, self.sampled, name])
        part = self.parts.read(digest, ahead)
        drawn = parsed(part)
        there = there if drawn is None else drawn.first(n)
        seeds = [seed_of(self.config.seed, name, prompt, k) for k in range(len(there.responses), n)]
        asked = [self.crew.call(partial(self.draw, prompt, seed, record.where)) for seed in seeds]
        self.progress.add(len(there.responses), before=True)
        return _Line(record, digest, there, part, asked)

    def _finish(self, line: _Line) -> None:
        """Wait for a line's candidates, and make it the next part."""
        drawn = list[Candidate]()
        for future in line.asked:
            drawn.append(future.result())
            self.progress.add(1, before=False)
        made = line.record.fields | line.there.followed_by(drawn).fields(self.sampled)
        text = json.dumps(made) + "\n"
        if text == line.part:
            self.parts.keep(line.digest)
        else:
            self.parts.write(line.digest, text)
