"""IFEval (arXiv:2311.07911): does a response follow instructions that a program can check.

The rules of the 25 kinds of instructions are the published ones: lm-evaluation-harness (`lm_eval`)
has the authors' own code, kept well, and published figures come from it. It needs no torch, but
brings some 30 packages, so that it is an extra, `ifeval`. Rules of our own would count words,
sentences and languages a little differently, and their figures could not be set beside others'.

Where the library would draw an argument at random, since a line has none or one that it does not
take, we refuse the line. But it also does so for the "letters" # and ! of two published lines: here
those characters are counted, so that their verdicts are no matter of luck.

Strict takes a response as it is. Loose is content with any of eight variants: as it is, without its
first line, without its last, without both, and these four without `*`.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from rbs_jax.checkers.checker import Checker, Fields, Verdict
from rbs_jax.errors import UserError

NEEDS = ("lm_eval", "langdetect", "immutabledict", "nltk")
SENTENCES = "tokenizers/punkt_tab/english/"
"""NLTK's data that sentences and words in capitals are counted with."""


def ready() -> None:
    """Whether the rules can be used.

    Raises:
      UserError: a package, or NLTK's data, is not installed.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise UserError(
            f"the checkers of ifeval need {', '.join(missing)}: "
            "pip install 'rbs_jax[ifeval]' (or 'lm_eval[ifeval]')"
        )
    import nltk

    try:
        nltk.data.find(SENTENCES)
    except LookupError as error:  # lm_eval would try to download it when it is imported
        raise UserError(
            "the checkers of ifeval need NLTK's data: python -m nltk.downloader punkt_tab, or "
            f"copy it from another machine and let NLTK_DATA name the folder that has {SENTENCES}"
        ) from error


@lru_cache(1)
def _kinds() -> Mapping[str, Callable[[str], Any]]:
    """The library's rules, made to find the same language for the same text each time."""
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry

    langdetect.DetectorFactory.seed = 0  # it draws at random
    kinds: Mapping[str, Callable[[str], Any]] = instructions_registry.INSTRUCTION_DICT
    return kinds


def variants(response: str) -> list[str]:
    """The eight texts of which one must follow an instruction loosely."""
    lines = response.split("\n")
    shorter = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    whole = [response, *shorter]
    return whole + [text.replace("*", "") for text in whole]


def _followed(fields: Fields, response: str, loose: bool) -> list[bool]:
    """Whether each of the line's instructions is followed; an empty text follows none.

    Raises:
      UserError: the line's instructions are not as IFEval has them.
    """
    texts = [text for text in (variants(response) if loose else [response]) if text.strip()]
    return [any(map(follows, texts)) for follows in _instructions(fields)]


def _instructions(fields: Fields) -> list[Callable[[str], bool]]:
    """The rule of each of a line's instructions."""
    names, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(names, list) or not names:
        raise UserError("field 'instruction_id_list' is no list of instructions")
    if not isinstance(arguments, list) or len(arguments) != len(names):
        raise UserError("field 'kwargs' is no list with an object for each instruction")
    return [_rule(name, given) for name, given in zip(names, arguments, strict=True)]


def _rule(name: object, given: object) -> Callable[[str], bool]:
    """Of an instruction of this name and arguments; those that are null are as if not there."""
    if not isinstance(name, str) or name not in _kinds():
        raise UserError(f"{name!r} is none of IFEval's {len(_kinds())} kinds of instructions")
    if not isinstance(given, dict):
        raise UserError(f"the kwargs of {name} are no object")
    arguments = {key: value for key, value in given.items() if value is not None}
    instruction = _kinds()[name](name)
    wanted = instruction.get_instruction_args_keys()
    if set(arguments) != set(wanted):
        raise UserError(f"the kwargs of {name} are {arguments}; it takes {wanted or 'none'}")
    try:
        instruction.build_description(**arguments)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"the kwargs of {name}, {arguments}, are not taken: {error}") from error
    taken = instruction.get_instruction_args() or {}
    others = {key for key in wanted if _plain(taken[key]) != _plain(arguments[key])}
    if name == "keywords:letter_frequency" and others == {"letter"}:
        return _counts(arguments["letter"], arguments["let_relation"], arguments["let_frequency"])
    if others:
        raise UserError(f"the kwargs of {name}, {arguments}, are not taken: {', '.join(others)}")
    follows: Callable[[str], bool] = instruction.check_following
    return follows


def _plain(value: object) -> object:
    """An argument whatever its case and order, which the library does not keep."""
    if isinstance(value, list):
        return sorted(map(str, value))
    return value.strip().lower() if isinstance(value, str) else value


def _counts(character: str, relation: str, times: int) -> Callable[[str], bool]:
    return lambda text: (text.count(character) < times) == (relation == "less than")


def _all_of(loose: bool) -> Callable[[Fields, str], Verdict]:
    return lambda fields, response: Verdict(float(all(_followed(fields, response, loose))), None)


def _share_of(loose: bool) -> Callable[[Fields, str], Verdict]:
    def check(fields: Fields, response: str) -> Verdict:
        followed = _followed(fields, response, loose)
        return Verdict(sum(followed) / len(followed), None)

    return check


def instructions_of(fields: Fields) -> int:
    """How many a line has: a mean of shares so weighted is the one over all instructions."""
    return len(fields["instruction_id_list"])


IFEVAL = Checker("IFEval: all instructions followed, strictly", _all_of(False), ready=ready)
IFEVAL_LOOSE = Checker("IFEval: all instructions followed, loosely", _all_of(True), ready=ready)
IFEVAL_INSTRUCTIONS = Checker(
    "IFEval: the share of instructions followed, strictly", _share_of(False), instructions_of, ready
)
IFEVAL_INSTRUCTIONS_LOOSE = Checker(
    "IFEval: the share of instructions followed, loosely", _share_of(True), instructions_of, ready
)
