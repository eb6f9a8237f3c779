"""`ppe`: Preference Proxy Evaluations (arXiv:2410.14872): human votes, and best of K samples."""

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record, text_of
from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import Group, Weights, mean_of
from rbs_jax.statistics.wins import AT_RANDOM, Rule, on_top, per_pair, strictly
from rbs_jax.suites.items import Item, Scores, id_of, one_of, read_records, unit_of
from rbs_jax.suites.suite import Judged, Suite

HUMAN = "human"
TIES = ("tie", "tie (bothbad)")
SAMPLES = re.compile(r"(mmlu.pro|math|gpqa|ifeval|mbpp.plus)[-_]best[-_]of[-_]k", re.IGNORECASE)
"""What a file's path says of the questions that its samples answer."""
MEASURES = ("pairs", "auc", "best_of_k")
Value = Callable[[Item, np.ndarray], float]


def read(path: str) -> list[Item]:
    """Rows of votes and of samples, told apart by their fields.

    Votes: {"question_id", "prompt", "response_1", "response_2", "winner"}; those that the voter
    left undecided are left out. Samples: {"question_id", "prompt", "response_1"..."response_K",
    "scores": [K truths], "sampled_conflict_pairs": [[i, j], ...]}; what the questions are from is
    read from the file's path (PPE-MATH-Best-of-K/...), else the subset is "samples".

    Raises:
      UserError: a row lacks a field, or its samples are all right or all wrong.
    """
    items = []
    for record in read_records(path):
        if "winner" not in record.fields:
            items.append(_samples(record))
            continue
        winner = one_of(record, "winner", ("model_a", "model_b", *TIES))
        if winner not in TIES:
            texts = [text_of(record, f"response_{n}") for n in (1, 2)]
            responses = texts if winner == "model_a" else texts[::-1]
            items.append(Item(_id(record), HUMAN, prompt_of(record), responses, 1))
    return items


def _id(record: Record) -> str:
    return id_of(record, "question_id")


def _samples(record: Record) -> Item:
    truths = record.fields.get("scores")
    if not isinstance(truths, list) or not all(isinstance(truth, bool | int) for truth in truths):
        raise UserError(f"{record.where}: field 'scores' must be a list of truths")
    if all(truths) or not any(truths):
        raise UserError(f"{record.where}: field 'scores': all samples are right, or all are wrong")
    texts = [text_of(record, f"response_{n + 1}") for n in range(len(truths))]
    order = sorted(range(len(truths)), key=lambda n: not truths[n])
    places = {sample: place for place, sample in enumerate(order)}
    pairs = [
        (places[one], places[other]) if truths[one] else (places[other], places[one])
        for one, other in _conflicts(record, len(truths))
        if truths[one] != truths[other]
    ]
    found = SAMPLES.findall(record.where)
    subset = re.sub(r"[^a-z]", "_", found[-1].lower()) if found else "samples"
    responses = [texts[sample] for sample in order]
    return Item(_id(record), subset, prompt_of(record), responses, sum(map(bool, truths)), pairs)


def _conflicts(record: Record, samples: int) -> Iterator[tuple[int, int]]:
    pairs = record.fields.get("sampled_conflict_pairs") or []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        match pair:
            case [int(one), int(other)] if 0 <= min(one, other) <= max(one, other) < samples:
                yield one, other
            case _:
                raise UserError(
                    f"{record.where}: field 'sampled_conflict_pairs' has {pair!r}, no two of "
                    f"{samples} samples"
                )


def judge(items: Sequence[Item], scores: Scores) -> Judged:
    """Votes by the better response; samples by sampled pairs, all pairs, and the best."""

    def pairs(item: Item, own: np.ndarray) -> float:
        return float(np.mean([own[right] > own[wrong] for right, wrong in item.pairs]))

    def by(rule: Rule) -> Value:
        return lambda item, own: rule(own, item.right)

    return _judged(items, scores, [by(strictly), pairs, by(per_pair), by(on_top)])


def chance(items: Sequence[Item]) -> Judged:
    """One half, and for the best of K the share that is right."""

    def top(item: Item, own: np.ndarray) -> float:
        return AT_RANDOM[on_top](item.right, len(own) - item.right)

    def half(item: Item, own: np.ndarray) -> float:  # noqa: ARG001
        return 0.5

    none = [np.zeros(len(item.responses)) for item in items]
    return _judged(items, none, [half, half, half, top])


def _judged(items: Sequence[Item], scores: Scores, values: Sequence[Value]) -> Judged:
    """By what votes are worth, and what each of MEASURES is; an item counts as the best of K."""
    found: dict[str, tuple[list[float], list[str]]] = {}
    own_value = []
    vote, *measures = values
    for item, own in zip(items, scores, strict=True):
        if item.subset == HUMAN:
            named = {HUMAN: vote(item, own)}
        else:
            named = {
                f"{item.subset}/{name}": measure(item, own)
                for name, measure in zip(MEASURES, measures, strict=True)
                if name != "pairs" or item.pairs
            }
        for name, value in named.items():
            group_values, units = found.setdefault(name, ([], []))
            group_values.append(value)
            units.append(unit_of(item.prompt))
        own_value.append([*named.values()][-1])
    groups = {name: Group(np.array(own), units) for name, (own, units) in found.items()}
    return Judged(np.array(own_value), groups)


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """Of votes; of samples each measure's mean over where the questions are from."""
    subsets = dict.fromkeys(item.subset for item in items if item.subset != HUMAN)
    paired = dict.fromkeys(item.subset for item in items if item.pairs)
    found: dict[str, Weights] = {}
    if any(item.subset == HUMAN for item in items):
        found["human"] = {HUMAN: 1.0}
    for name, over in zip(MEASURES, (paired, subsets, subsets), strict=True):
        if over:
            found[f"correctness_{name}"] = mean_of([{f"{subset}/{name}": 1.0} for subset in over])
    return found


PPE = Suite(
    about="PPE: human votes, and samples checked for correctness (pairs, AUC, best of K)",
    where="Hugging Face, data sets lmarena-ai/PPE-Human-Preference-V1 and lmarena-ai/"
    "PPE-{MMLU-Pro,MATH,GPQA,IFEval,MBPP-Plus}-Best-of-K",
    read=read,
    judge=judge,
    chance=chance,
    averages=averages,
)
