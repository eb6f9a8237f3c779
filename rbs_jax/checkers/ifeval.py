"""IFEval (arXiv:2311.07911): does a response follow instructions that a program can check.

The rules of the 25 kinds of instructions are the published ones: lm-evaluation-harness (`lm_eval`)
has the authors' own code, kept well, and published figures come from it. It needs no torch, but
brings some 30 packages, so that it is an extra, `ifeval`. Rules of our own would count words,
sentences and languages a little differently, and their figures could not be set beside others'.

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
def _rules() -> Any:
    """The library's module, made to find the same language for the same text each time."""
    import langdetect
    from lm_eval.tasks.ifeval import utils

    langdetect.DetectorFactory.seed = 0  # it draws at random
    return utils


def _followed(fields: Fields, response: str, loose: bool) -> list[bool]:
    """Whether each of the line's instructions is followed.

    Raises:
      UserError: the line's instructions are not as IFEval has them.
    """
    names, arguments = _instructions(fields)
    rules = _rules()
    line = rules.InputExample(0, names, "", arguments)  # no kind of instruction reads the prompt
    follows = getattr(rules, f"test_instruction_following_{'loose' if loose else 'strict'}")
    return [bool(each) for each in follows(line, response).follow_instruction_list]


def _instructions(fields: Fields) -> tuple[list[str], list[dict[str, Any]]]:
    """The kinds of a line's instructions, and the arguments of each, without nulls."""
    names, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(names, list) or not names:
        raise UserError("field 'instruction_id_list' is no list of instructions")
    if not isinstance(arguments, list) or len(arguments) != len(names):
        raise UserError("field 'kwargs' is no list with an object for each instruction")
    pairs = zip(names, arguments, strict=True)
    return names, [_accepted(name, given) for name, given in pairs]


def _accepted(name: object, given: object) -> dict[str, Any]:
    """The arguments of an instruction; the library would draw those that are absent at random."""
    kinds: Mapping[str, Callable[[str], Any]] = _rules().instructions_registry.INSTRUCTION_DICT
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"{name!r} is none of IFEval's {len(kinds)} kinds of instructions")
    if not isinstance(given, dict):
        raise UserError(f"the kwargs of {name} are no object")
    arguments = {key: value for key, value in given.items() if value is not None}
    instruction = kinds[name](name)
    wanted = instruction.get_instruction_args_keys()
    if set(arguments) != set(wanted) or not all(arguments.values()):
        raise UserError(
            f"the kwargs of {name} are {arguments}; it takes "
            f"{' and '.join(wanted) or 'none'}, none of them empty or 0"
        )
    try:
        instruction.build_description(**arguments)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the kwargs of {name}, {arguments}, are not accepted: {error}") from error
    return arguments


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
