"""`llmbar`: LLMBar (arXiv:2310.07641): two outputs, one of which follows the instruction."""

from collections.abc import Sequence

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record, text_of
from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import Weights, mean_of
from rbs_jax.statistics.wins import per_pair
from rbs_jax.suites.items import Item, id_of, read_records
from rbs_jax.suites.suite import Suite, chance_by, judge_by, over_rows

FOLDERS = {
    "Natural": "natural",
    "Neighbor": "adver-neighbor",
    "GPTInst": "adver-GPTInst",
    "GPTOut": "adver-GPTOut",
    "Manual": "adver-manual",
}
"""The publisher's of LLMBar itself; any other folder names its subset."""
LEFT_OUT = r"(^|/)evaluators/"
"""What the publisher's judges said."""


def read(path: str) -> list[Item]:
    """Rows of {"input", "output_1", "output_2", "label"} in a folder that names the subset.

    Rows of {"prompt", "chosen", "rejected", "subset", "id"} are read too.

    Raises:
      UserError: a row lacks a field, or its label is neither 1 nor 2.
    """
    items = []
    for record in read_records(path, LEFT_OUT):
        if "input" in record.fields:
            items.append(_published(record))
        else:
            responses = [text_of(record, side) for side in ("chosen", "rejected")]
            subset = text_of(record, "subset")
            items.append(Item(id_of(record), subset, prompt_of(record), responses, 1))
    return items


def _published(record: Record) -> Item:
    label = record.fields.get("label")
    if label not in (1, 2):
        raise UserError(f"{record.where}: field 'label' is {label!r}, neither 1 nor 2")
    texts = [text_of(record, f"output_{n}") for n in (1, 2)]
    folder = record.where.split("/")[-2] if "/" in record.where else "all"
    responses = texts if label == 1 else texts[::-1]
    subset = FOLDERS.get(folder, folder)
    return Item(record.where, subset, prompt_of(record, "input"), responses, 1)


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The mean over rows, of the natural part and of the adversarial parts."""
    there = {item.subset for item in items}
    found = over_rows(items)
    if "natural" in there:
        found["natural"] = {"natural": 1.0}
    adversarial = [{name: 1.0} for name in FOLDERS.values() if name in there - {"natural"}]
    if adversarial:
        found["adversarial"] = mean_of(adversarial)
    return found


LLMBAR = Suite(
    about="LLMBar: two outputs, of which one follows the instruction, natural and adversarial",
    where="GitHub, princeton-nlp/LLMBar, folder Dataset/LLMBar",
    read=read,
    judge=judge_by(per_pair),
    chance=chance_by(per_pair),
    averages=averages,
)
