"""`module:function`: a checker of the user's own."""

import importlib
import math
import os
import sys
from collections.abc import Callable
from copy import deepcopy
from numbers import Real
from typing import Any

import numpy as np

from rbs_jax.checkers.checker import Checker, Fields, Verdict
from rbs_jax.data.sources import checked_text
from rbs_jax.errors import UserError


def own_checker(name: str) -> Checker:
    """A function `f(fields, response)` of a module in the current folder or installed.

    Args:
      name: `module:function`. The function returns whether the response is right, a bool or a
        number from 0 to 1; or a pair of that and the answer (a string or None) that votes count.

    Raises:
      UserError: the module cannot be imported, or has no such function.
    """
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:  # as it is for `python -m`, but not for an installed command
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except (Exception, SystemExit) as error:  # whatever the module does
        raise UserError(f"checker {name}: cannot import {module!r}: {_told(error)}") from error
    if not callable(found):
        raise UserError(f"checker {name}: {module} has no function {function!r}")
    return Checker(f"the function {name}", _checked(name, found))


def _checked(name: str, function: Callable[[Fields, str], Any]) -> Callable[[Fields, str], Verdict]:
    def check(fields: Fields, response: str) -> Verdict:
        try:
            returned = function(deepcopy(fields), response)  # it may change what it is given
        except BaseException as error:  # whatever it does; Ctrl-C does not reach this process
            raise UserError(f"{name} raised {_told(error)}") from error
        right, answer = returned if _is_pair(returned) else (returned, None)
        try:
            share = float(right) if isinstance(right, bool | np.bool_ | Real) else math.nan
        except OverflowError:
            share = math.nan
        if 0 <= share <= 1 and (answer is None or isinstance(answer, str)):
            return Verdict(share, answer and _as_in_a_file(answer, name))
        raise UserError(
            f"{name} returned {returned!r:.80}; it should return a bool, a number from 0 to 1, or "
            "a pair of that and the answer as a string or None"
        )

    return check


def _as_in_a_file(answer: str, name: str) -> str:
    """The same string as if a line of candidates gave it in its field "answers"."""
    return checked_text(answer, f"the answer that {name} returned").strip()


def _is_pair(returned: object) -> bool:
    return isinstance(returned, tuple) and len(returned) == 2


def _told(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
