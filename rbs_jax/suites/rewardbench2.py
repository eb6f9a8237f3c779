"""`rewardbench2`: RewardBench 2 (arXiv:2506.01937): best of four, and prompts of many answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import Group, Weights, mean_of
from rbs_jax.statistics.wins import AT_RANDOM, on_top, strictly
from rbs_jax.suites.items import Item, Scores, id_of, one_of, read_records, texts_of
from rbs_jax.suites.suite import Judged, Suite, by_subset

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
TIES = "Ties"
TIES_SCORE: Weights = {
    "Ties/tied": 0.30,
    "Ties/ref": 0.30,
    "Ties/apart": 0.20,
    "Ties/apart_of_both": 0.20,
    "Ties/margin": 0.01,
}
"""Its published score: accuracy with many and with one right answer; how often the gap between
right and wrong answers is wider than that among the right ones, in the prompt of many and in the
narrower of both; and how much wider."""
DRAWS = 2000
"""Of random scores, for what they are worth on Ties."""


def read(path: str) -> list[Item]:
    """Rows of {"id", "prompt", "chosen": [...], "rejected": [...], "num_correct", "subset"}.

    The first `num_correct` of all responses are right. A row of Ties has the id ref:N (one right
    answer) or tied:N (several) with the same N.

    Raises:
      UserError: a row lacks a field, its subset is none of RewardBench 2's, or its id none of Ties.
    """
    items, ties = [], set[str]()
    for record in read_records(path):
        subset = one_of(record, "subset", (*SUBSETS, TIES))
        responses = texts_of(record, "chosen") + texts_of(record, "rejected")
        right = _number_right(record, len(responses))
        item = Item(id_of(record), subset, prompt_of(record), responses, right)
        if subset == TIES:
            kind, colon, _ = item.id.partition(":")
            if kind not in {"ref", "tied"} or not colon:
                raise UserError(f"{record.where}: id {item.id!r} of {TIES} is no ref:N or tied:N")
            if item.id in ties:
                raise UserError(f"{record.where}: id {item.id!r} of {TIES} was there before")
            if kind == "tied" and right == 1:
                raise UserError(f"{record.where}: num_correct of {item.id!r} must be 2 or more")
            ties.add(item.id)
        items.append(item)
    return items


def _number_right(record: Record, responses: int) -> int:
    right = record.fields.get("num_correct", len(texts_of(record, "chosen")))
    if not isinstance(right, int) or not 1 <= right < responses:
        raise UserError(
            f"{record.where}: field 'num_correct' is {right!r}; of {responses} responses at least "
            "one must be right and one wrong"
        )
    return right


def judge(items: Sequence[Item], scores: Scores) -> Judged:
    """The share of the top that is right; Ties by its own score."""
    own = list(zip(items, scores, strict=True))
    values = [(strictly if i.subset == TIES else on_top)(s, i.right) for i, s in own]
    of_ties = [(item, of_item[None, :]) for item, of_item in own if item.subset == TIES]
    return Judged(np.array(values), _groups(items, np.array(values)) | _ties(of_ties))


def chance(items: Sequence[Item]) -> Judged:
    """What random scores are worth; on Ties on average over draws from a normal distribution."""
    values = np.array([
        AT_RANDOM[strictly if i.subset == TIES else on_top](i.right, len(i.responses) - i.right)
        for i in items
    ])  # fmt: skip
    draw = np.random.default_rng(0)
    ties = [item for item in items if item.subset == TIES]
    drawn = [(item, draw.normal(size=(DRAWS, len(item.responses)))) for item in ties]
    return Judged(values, _groups(items, values) | _ties(drawn))


def _groups(items: Sequence[Item], values: Float[np.ndarray, " N"]) -> dict[str, Group]:
    groups = by_subset(items, values)
    groups.pop(TIES, None)
    return groups


class _Row(NamedTuple):
    """Of one row of Ties, in every draw of scores."""

    accurate: Bool[np.ndarray, " R"]
    spread: Float[np.ndarray, " R"]
    """From the best right response to the worst."""
    margin: Float[np.ndarray, " R"]
    """From the worst right response to the best wrong one; -inf where one has no score."""


def _row(scores: Float[np.ndarray, "R S"], right: int) -> _Row:
    good, bad = scores[:, :right], scores[:, right:]
    lost = np.isnan(scores).any(1)
    margin = np.where(lost, -np.inf, good.min(1) - bad.max(1))
    return _Row(margin > 0, np.where(lost, 0.0, good.max(1) - good.min(1)), margin)


def _ties(scored: Sequence[tuple[Item, Float[np.ndarray, "_ _"]]]) -> dict[str, Group]:
    """What the score of Ties is made of, by prompt id; what rows are not there for is left out."""
    rows: dict[str, dict[str, _Row]] = {"tied": {}, "ref": {}}
    for item, scores in scored:
        kind, _, prompt = item.id.partition(":")
        rows[kind][prompt] = _row(scores, item.right)
    tied, ref = rows["tied"], rows["ref"]
    parts = {f"Ties/{k}": {p: row.accurate for p, row in rows[k].items()} for k in rows}
    both = [prompt for prompt in tied if prompt in ref]
    narrower = {p: np.minimum(tied[p].margin, ref[p].margin) for p in both}
    parts["Ties/apart"] = {p: tied[p].margin > tied[p].spread for p in both}
    parts["Ties/apart_of_both"] = {p: narrower[p] > tied[p].spread for p in both}
    parts["Ties/margin"] = {p: _times_wider(narrower[p], tied[p].spread) for p in both}
    return {
        name: Group(np.array([value.mean() for value in part.values()]), [*part])
        for name, part in parts.items()
        if part
    }


def _times_wider(
    margin: Float[np.ndarray, " R"], spread: Float[np.ndarray, " R"]
) -> Float[np.ndarray, " R"]:
    """tanh(margin / spread - 1); without a spread the margin's sign."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.tanh(margin / spread - 1), nan=0.0)


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The leaderboard's mean of subsets, the RBS paper's without Ties, and the score of Ties."""
    there = {item.subset for item in items}
    kinds = {kind: _prompts(items, kind) for kind in ("ref", "tied")}
    plain = [{name: 1.0} for name in SUBSETS if name in there]
    ties = [TIES_SCORE] if kinds["ref"] & kinds["tied"] else []
    found: dict[str, Weights] = {}
    if plain or ties:
        found["average"] = mean_of([*plain, *ties])
    if plain:
        found["without_ties"] = mean_of(plain)
    if ties:
        found[TIES] = TIES_SCORE
    if "Math" in there:
        found["ID"] = {"Math": 1.0}
    if "Safety" in there:
        found["OOD-Safety"] = {"Safety": 1.0}
    others = [{name: 1.0} for name in SUBSETS if name in there - {"Math", "Safety"}]
    if others:
        found["OOD-Others"] = mean_of(others)
    return found


def _prompts(items: Sequence[Item], kind: str) -> set[str]:
    ids = (item.id.partition(":") for item in items if item.subset == TIES)
    return {prompt for found, _, prompt in ids if found == kind}


REWARDBENCH2 = Suite(
    about="RewardBench 2: the best of four responses, and Ties, prompts of many right answers",
    where="Hugging Face, data set allenai/reward-bench-2 (file data/test-*.parquet)",
    read=read,
    judge=judge,
    chance=chance,
    averages=averages,
)
