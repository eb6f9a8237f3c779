"""`rewardbench`: RewardBench v1 and the older preference sets beside it (arXiv:2403.13787)."""

from collections.abc import Sequence

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import text_of
from rbs_jax.statistics.figures import Weights, by_counts, mean_of, weighted_sum
from rbs_jax.statistics.wins import strictly
from rbs_jax.suites.items import Item, id_of, one_of, read_records
from rbs_jax.suites.suite import Suite, chance_by, judge_by

SECTIONS: dict[str, dict[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,  # 447 rows that count as much as all of code
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
"""How often each subset counts in its section, whatever number of its rows is given."""
PRIOR = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
"""Sets that bear the name of their file and count the same."""
SUBSETS = (*(subset for section in SECTIONS.values() for subset in section), *PRIOR)
LEFT_OUT = r"(^|/)(raw-|anthropic_harmless|mtbench_|pku_)"
"""Files beside the filtered split and beside the prior sets that count in no average."""


def read(path: str) -> list[Item]:
    """Rows of {"prompt", "chosen", "rejected", "subset", "id"}.

    In a file that bears a prior set's name that is the subset, whatever the row says.

    Raises:
      UserError: a row lacks a field, or its subset is none of RewardBench's.
    """
    items = []
    for record in read_records(path, LEFT_OUT):
        file = record.where.rpartition("/")[2]
        prior = next((name for name in PRIOR if file.startswith(name)), None)
        subset = prior or one_of(record, "subset", SUBSETS)
        responses = [text_of(record, "chosen"), text_of(record, "rejected")]
        items.append(Item(id_of(record), subset, prompt_of(record), responses, 1))
    return items


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The leaderboard's mean of sections, the older one with prior sets, and the RBS paper's."""
    there = {item.subset for item in items}
    sections: dict[str, Weights] = {}
    for name, counts in SECTIONS.items():
        present = {subset: count for subset, count in counts.items() if subset in there}
        if present:
            sections[name] = by_counts(present)
    prior = by_counts({name: 1 for name in PRIOR if name in there}) if there & {*PRIOR} else None
    found: dict[str, Weights] = {}
    if sections:
        found["average"] = mean_of(sections.values())
    if sections and prior:
        total = 2 * len(sections) + 1
        twice = [(2 / total, weights) for weights in sections.values()]
        found["with_prior_sets"] = weighted_sum([*twice, (1 / total, prior)])
    found |= sections
    if prior:
        found["Prior Sets"] = prior
    others = [sections[name] for name in ("Chat", "Chat Hard") if name in sections]
    if "Reasoning" in sections:
        found["ID"] = sections["Reasoning"]
    if "Safety" in sections:
        found["OOD-Safety"] = sections["Safety"]
    if others:
        found["OOD-Others"] = mean_of(others)
    return found


REWARDBENCH = Suite(
    about="RewardBench v1: pairs in 23 subsets and four sections; prior sets where given",
    where="Hugging Face, data set allenai/reward-bench (file data/filtered-*.parquet); "
    "prior sets: allenai/pref-test-sets",
    read=read,
    judge=judge_by(strictly),
    chance=chance_by(strictly),
    averages=averages,
)
