"""Every benchmark by the name that `rbs eval` knows it by."""

from rbs_jax.suites.pairs import PAIRS
from rbs_jax.suites.suite import Suite
from rbs_jax.suites.unjudged import RESPONSES

SUITES: dict[str, Suite] = {
    "pairs": PAIRS,
    "responses": RESPONSES,
}
