r"""Mathematical answers (GSM8K, arXiv:2110.14168; MATH, arXiv:2103.03874), by math-verify.

The whole response is parsed as math-verify does by default: it answers what stands last in "the
final answer is ..." or \boxed{}, else in "answer: ...", else behind "answer", else the last formula
or number. Several boxes close together are a set. It is right where math-verify holds it equal to
the reference: equal as sets, intervals or expressions, numbers to 6 decimals. What takes longer
than 5 seconds counts as not equal.

GSM8K differs in one thing: a response that ends with GSM8K's own mark, "#### 18", answers what
stands behind it. math-verify does not know the mark, and takes "$76,000 + $" for a formula.
"""

import re
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any

from rbs_jax.checkers.checker import Checker, Fields, Verdict
from rbs_jax.errors import UserError

DECIMALS = 6
"""To which math-verify compares numbers."""
MARKED = re.compile(r"####\s*\$?(-?[\d.,]*\d)\.?\s*$")
"""At the end alone: elsewhere it is a heading."""
SECONDS = 5
"""For the one string of an answer; math-verify allows as much for each of its steps."""


def check(fields: Fields, response: str) -> Verdict:
    """Whether the response's answer equals the reference's.

    Raises:
      UserError: the line has no reference, or one that math-verify finds nothing in.
    """
    from math_verify import parse, verify

    found = parse(response)
    return Verdict(float(verify(_parsed(reference(fields)), found)), _canonical(found))


def check_gsm8k(fields: Fields, response: str) -> Verdict:
    """As `check`, of what stands behind the mark "####" where the response ends with it.

    Raises:
      UserError: as `check`.
    """
    marked = MARKED.search(response)
    return check(fields, _boxed(marked[1]) if marked else response)


def reference(fields: Fields) -> str:
    r"""What math-verify is to read as the right answer.

    It is the field "answer", a number or string, else "solution". Of a text with GSM8K's mark
    "####" it is the part behind, without commas; of one with \boxed{} the last of them, as MATH
    takes it of its solutions; any other answer is read as if it stood in \boxed{}, so that LaTeX
    needs no dollars.

    Raises:
      UserError: neither field is there, or of a kind or form that is not read.
    """
    field = "answer" if fields.get("answer") is not None else "solution"
    text = fields.get(field)
    if text is None:
        raise UserError("no field 'answer' and none 'solution', which hold the right answer")
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise UserError(f"field {field!r} is {type(text).__name__}, not a string or a number")
    if not isinstance(text, str):
        text = _decimal(text, field)
    if "####" in text:
        return _boxed(text.rpartition("####")[2])
    if r"\boxed" in text:
        return text[text.rindex(r"\boxed") :]
    if field == "solution":
        raise UserError(r"field 'solution' has no '####' and no \boxed{}, which mark its answer")
    return rf"\boxed{{{text}}}"


def _decimal(number: int | float, field: str) -> str:
    """A number without an exponent, which math-verify would read as a product with Euler's e."""
    exact = Decimal(str(number))
    if not exact.is_finite():
        raise UserError(f"field {field!r} is {number}, not a finite number")
    return f"{exact:f}"


def _boxed(number: str) -> str:
    return rf"\boxed{{{number.strip().replace(',', '')}}}"


@lru_cache(1)
def _parsed(text: str) -> list[Any]:
    """Of one reference after the other; each is compared with many responses."""
    from math_verify import parse

    parsed = parse(text)
    if not parsed:
        raise UserError(f"math-verify finds no answer in the reference {text[-80:]!r}")
    return parsed


def _canonical(parsed: list[Any]) -> str | None:
    """One string for answers that are the same number, or are written alike but for spaces.

    Args:
      parsed: what math-verify made of a response: a formula if it could, and its text.
    """
    from math_verify.errors import TimeoutException
    from math_verify.utils import timeout

    if not parsed:
        return None
    try:
        answer = timeout(SECONDS)(_written)(parsed[0])
    except (Exception, TimeoutException):  # sympy's own are of all kinds
        answer = str(parsed[-1])
    return answer.strip()  # as those are that a file gives


def _written(value: Any) -> str:
    from sympy import Eq, Expr, UnevaluatedExpr

    if isinstance(value, Eq) and value.lhs.is_Symbol:
        value = value.rhs  # math-verify holds x = 5 equal to 5
    if isinstance(value, Expr) and value.is_number:
        # A percentage is 50*UnevaluatedExpr(1/100): sympy does not say that such a one is real.
        worked = value.xreplace({each: each.args[0] for each in value.atoms(UnevaluatedExpr)})
        if worked.is_Integer:
            return str(worked)
        if worked.is_real and isfinite(number := float(worked)):
            written = f"{number:.{DECIMALS}f}".rstrip("0").rstrip(".")
            return "0" if written == "-0" else written
    return str(value)


GSM8K = Checker("GSM8K: math-verify holds the answers equal", check_gsm8k)
MATH = Checker("MATH: math-verify holds the answers equal", check)
