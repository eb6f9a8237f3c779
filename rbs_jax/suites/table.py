"""Every benchmark by the name that `rbs eval` knows it by."""

from rbs_jax.suites.judgebench import JUDGEBENCH
from rbs_jax.suites.llmbar import LLMBAR
from rbs_jax.suites.pairs import PAIRS
from rbs_jax.suites.ppe import PPE
from rbs_jax.suites.prmbench_pairs import PRMBENCH_PAIRS
from rbs_jax.suites.rewardbench import REWARDBENCH
from rbs_jax.suites.rewardbench2 import REWARDBENCH2
from rbs_jax.suites.rewardmath import REWARDMATH
from rbs_jax.suites.rm_bench import RM_BENCH
from rbs_jax.suites.rmb import RMB
from rbs_jax.suites.suite import Suite
from rbs_jax.suites.unjudged import RESPONSES

SUITES: dict[str, Suite] = {
    "pairs": PAIRS,
    "rewardbench": REWARDBENCH,
    "rewardbench2": REWARDBENCH2,
    "rm_bench": RM_BENCH,
    "rewardmath": REWARDMATH,
    "judgebench": JUDGEBENCH,
    "rmb": RMB,
    "ppe": PPE,
    "prmbench_pairs": PRMBENCH_PAIRS,
    "llmbar": LLMBAR,
    "responses": RESPONSES,
}
