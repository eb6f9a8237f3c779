"""`prmbench_pairs`: pairs derived from PRMBench (arXiv:2501.03124): a solution, and it spoilt."""

from collections.abc import Sequence

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record, text_of
from rbs_jax.statistics.figures import Weights
from rbs_jax.statistics.wins import per_pair
from rbs_jax.suites.items import Item, id_of, read_records, texts_of
from rbs_jax.suites.suite import Suite, chance_by, judge_by, over_rows, rows_of

AIMS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception"),
}
"""The publisher's kinds of error; the third of the last has no wrong solution."""
OTHER = ", other question"
"""Marks pairs whose spoilt solution answers a question that was changed as well."""


def read(path: str) -> list[Item]:
    """Rows as the publisher's, or flat pairs; the subset is the kind of error.

    The publisher's: {"original_question" or "question", "original_process": [steps],
    "modified_question", "modified_process": [steps], "classification", "idx"}. Flat: {"prompt",
    "chosen", "rejected", "subset", "modified_prompt", "id"}. The original question stands before
    both solutions.

    Raises:
      UserError: a row lacks a field.
    """
    return [
        _published(record) if "original_process" in record.fields else _flat(record)
        for record in read_records(path)
    ]


def _published(record: Record) -> Item:
    named = "original_question" if "original_question" in record.fields else "question"
    prompt = text_of(record, named)
    same = (None, prompt, record.fields.get("question"))
    other = OTHER if record.fields.get("modified_question") not in same else ""
    sides = ("original_process", "modified_process")
    responses = ["\n".join(texts_of(record, side)) for side in sides]
    subset = text_of(record, "classification") + other
    return Item(id_of(record, "idx"), subset, prompt, responses, 1)


def _flat(record: Record) -> Item:
    prompt = prompt_of(record)
    other = OTHER if record.fields.get("modified_prompt") not in (None, prompt) else ""
    responses = [text_of(record, side) for side in ("chosen", "rejected")]
    return Item(id_of(record), text_of(record, "subset") + other, prompt, responses, 1)


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The mean over pairs of one question, that by the publisher's aims, and over all pairs."""
    same = [item for item in items if not item.subset.endswith(OTHER)]
    named = {"same_question": same} | {
        aim: [item for item in same if item.subset in kinds] for aim, kinds in AIMS.items()
    }
    return {name: rows_of(own) for name, own in named.items() if own} | over_rows(items)


PRMBENCH_PAIRS = Suite(
    about="pairs derived from PRMBench, original against spoilt solution; no PRMBench score",
    where="GitHub, ssmisya/PRMBench, or Hugging Face, data set hitsmy/PRMBench_Preview",
    read=read,
    judge=judge_by(per_pair),
    chance=chance_by(per_pair),
    averages=averages,
)
