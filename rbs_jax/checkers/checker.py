"""What every answer checker is: a line and a response in, a verdict out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Fields = Mapping[str, Any]
"""Those of a line of the file that holds the prompts."""


class Verdict(NamedTuple):
    """What a checker says of a response."""

    right: float
    """1 or 0, or a share where a checker counts several demands."""
    answer: str | None
    """What the response answers, for votes: of equal answers the same string, as far as that can
    be known cheaply. None where it gives none, or the checker knows none."""


def once(fields: Fields) -> int:  # noqa: ARG001
    """Every line counts alike."""
    return 1


def nothing() -> None:
    """For checkers that are always ready."""


class Checker(NamedTuple):
    """A way to tell whether a response is right."""

    about: str
    """One line for the page of results."""
    check: Callable[[Fields, str], Verdict]
    """Raises UserError where the line's fields are not as they should be."""
    weight: Callable[[Fields], int] = once
    """How often a line counts in a mean."""
    ready: Callable[[], None] = nothing
    """Raises UserError where something that the checker needs is not installed."""
