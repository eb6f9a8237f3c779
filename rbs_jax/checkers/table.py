"""Every answer checker by the name that `rbs bon` knows it by."""

from rbs_jax.checkers.checker import Checker
from rbs_jax.checkers.ifeval import (
    IFEVAL,
    IFEVAL_INSTRUCTIONS,
    IFEVAL_INSTRUCTIONS_LOOSE,
    IFEVAL_LOOSE,
)
from rbs_jax.checkers.mathematics import GSM8K, MATH
from rbs_jax.checkers.own import own_checker
from rbs_jax.checkers.toxigen import TOXIGEN
from rbs_jax.errors import UserError

CHECKERS: dict[str, Checker] = {
    "gsm8k": GSM8K,
    "math": MATH,
    "ifeval": IFEVAL,
    "ifeval_loose": IFEVAL_LOOSE,
    "ifeval_instructions": IFEVAL_INSTRUCTIONS,
    "ifeval_instructions_loose": IFEVAL_INSTRUCTIONS_LOOSE,
    "toxigen": TOXIGEN,
}


def find_checker(name: str) -> Checker:
    """One of the table, or the function that `module:function` names; it is ready for use.

    Raises:
      UserError: there is none of this name, or what it needs is not there.
    """
    if ":" in name:
        return own_checker(name)
    if name not in CHECKERS:
        raise UserError(
            f"no checker {name!r}; there are {', '.join(CHECKERS)}, and module:function for a "
            "function of your own"
        )
    CHECKERS[name].ready()
    return CHECKERS[name]
