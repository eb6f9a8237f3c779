"""`responses`: any file of several responses to a prompt, of which none is said to be right."""

from collections.abc import Sequence

import numpy as np

from rbs_jax.data.answers import prompt_of, responses_of
from rbs_jax.suites.items import Item, Scores, id_of, read_records
from rbs_jax.suites.suite import Judged, Suite


def read(path: str) -> list[Item]:
    """Rows of {"prompt", "responses"}, as rbs score reads them.

    Raises:
      UserError: a row lacks a field, or has one of another kind.
    """
    return [
        Item(id_of(record), "all", prompt_of(record), responses_of(record), 0)
        for record in read_records(path)
    ]


def judge(items: Sequence[Item], _: Scores | None = None) -> Judged:
    """Nothing is right or wrong here."""
    return Judged(np.full(len(items), np.nan), {})


RESPONSES = Suite(
    about="several responses a prompt, none right or wrong: spread and length of rewards alone",
    where="any file of prompt, responses",
    read=read,
    judge=judge,
    chance=judge,
    averages=lambda _: {},
)
