"""`rewardmath`: RewardMATH (arXiv:2410.01729): one right solution against nine wrong ones."""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
from jaxtyping import Float

from rbs_jax.data.sources import text_of
from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import Group, Weights
from rbs_jax.statistics.wins import AT_RANDOM, strictly
from rbs_jax.suites.items import Item, Scores, one_of, read_records, texts_of, unit_of
from rbs_jax.suites.suite import Judged, Suite

LEFT_OUT = r"pairwise|rewardbench"
"""Files beside it with the same solutions in pairs, and with another benchmark's."""


def read(path: str) -> list[Item]:
    """Rows of {"problem", "problem_id", "eval_solution": [steps], "solution_type"}.

    Each is one solution, chosen or rejected; those of one `problem_id` are an item. Steps are
    joined by newlines, as the publisher does for a scalar model.

    Raises:
      UserError: a row lacks a field, or a problem has no right or no wrong solution.
    """
    problems: dict[str, dict[str, list[str]]] = {}
    prompts: dict[str, str] = {}
    for record in read_records(path, LEFT_OUT):
        kind = one_of(record, "solution_type", ("chosen", "rejected"))
        if record.fields.get("problem_id") is None:
            raise UserError(f"{record.where}: no field 'problem_id'")
        problem = str(record.fields["problem_id"])
        prompts.setdefault(problem, text_of(record, "problem"))
        solutions = problems.setdefault(problem, {"chosen": [], "rejected": []})
        solutions[kind].append("\n".join(texts_of(record, "eval_solution")))
    for problem, solutions in problems.items():
        for kind, texts in solutions.items():
            if not texts:
                raise UserError(f"{path}: problem_id {problem} has no {kind} solution")
    return [
        Item(problem, "all", prompts[problem], own["chosen"] + own["rejected"], len(own["chosen"]))
        for problem, own in problems.items()
    ]


def not_below(scores: Float[np.ndarray, " S"], right: int) -> float:
    """1 where no right response is below a wrong one."""
    return float((scores[:right, None] >= scores[None, right:]).all())


def reciprocal_rank(scores: Float[np.ndarray, " S"], right: int) -> float:
    """Of the first right response; of equal scores those of wrong ones come first."""
    best = np.nan_to_num(scores[:right], nan=-np.inf).max()
    return 1 / (1 + float((~(best > scores[right:])).sum()))


RULES = {"accuracy": strictly, "accuracy_with_ties": not_below, "mrr": reciprocal_rank}


def _expected_rank(right: int, wrong: int) -> float:
    total = right + wrong
    firsts = range(1, wrong + 2)
    return sum(comb(total - k, right - 1) / k for k in firsts) / comb(total, right)


EXPECTED: dict[str, Callable[[int, int], float]] = {
    "accuracy": AT_RANDOM[strictly],
    "accuracy_with_ties": AT_RANDOM[strictly],
    "mrr": _expected_rank,
}


def judge(items: Sequence[Item], scores: Scores) -> Judged:
    """Every problem by each rule."""
    own = list(zip(scores, (item.right for item in items), strict=True))
    return _judged(items, {name: [rule(*each) for each in own] for name, rule in RULES.items()})


def chance(items: Sequence[Item]) -> Judged:
    """What random scores are worth by each rule."""
    numbers = [(item.right, len(item.responses) - item.right) for item in items]
    return _judged(items, {name: [of(*n) for n in numbers] for name, of in EXPECTED.items()})


def _judged(items: Sequence[Item], by_rule: dict[str, list[float]]) -> Judged:
    units = [unit_of(item.prompt) for item in items]
    groups = {name: Group(np.array(values), units) for name, values in by_rule.items()}
    return Judged(groups["accuracy"].values, groups)


def averages(items: Sequence[Item]) -> dict[str, Weights]:  # noqa: ARG001
    """Each rule's mean over problems."""
    return {name: {name: 1.0} for name in RULES}


REWARDMATH = Suite(
    about="RewardMATH: one right solution of a problem against nine wrong ones",
    where="GitHub, kimsh0507/RewardMATH_official, dataset/benchmark/RewardMATH_direct.json",
    read=read,
    judge=judge,
    chance=chance,
    averages=averages,
)
