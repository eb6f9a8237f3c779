"""`rmb`: RMB (arXiv:2410.09893): pairs and best of several, helpful and harmless."""

from collections.abc import Sequence

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import Record, text_of
from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import Weights, mean_of
from rbs_jax.statistics.wins import strictly
from rbs_jax.suites.items import Item, id_of, read_records
from rbs_jax.suites.suite import Suite, chance_by, judge_by, rows_of

PAIRS, BEST = "Pairwise_set", "BoN_set"
AIMS = ("Helpfulness", "Harmlessness")
QUARTERS = tuple(f"{kind}/{aim}" for aim in AIMS for kind in (BEST, PAIRS))
"""What a row's `category_path` begins with."""


def read(path: str) -> list[Item]:
    """Rows of pairs and of best of several, told apart by their `category_path`.

    Pairs: {"pair_uid", "conversation_input": [messages], "chosen", "reject", "category_path"};
    best of several: {"bon_uid", "conversation_input", "bon_best", "loser_list": [...],
    "category_path"}; a response is {"answer"}. The subset is the path's first three parts.

    Raises:
      UserError: a row lacks a field, or its `category_path` is none of RMB's.
    """
    items = []
    for record in read_records(path):
        category = text_of(record, "category_path")
        if not category.startswith(QUARTERS):
            starts = ", ".join(QUARTERS)
            raise UserError(
                f"{record.where}: field 'category_path' is {category!r}, which starts with none "
                f"of {starts}"
            )
        if category.startswith(PAIRS):
            name, winner, losers = "pair_uid", "chosen", [_answer(record, "reject")]
        else:
            name, winner, losers = "bon_uid", "bon_best", _losers(record)
        prompt = prompt_of(record, "conversation_input")
        if not isinstance(prompt, str):  # messages say their language too
            prompt = [{"role": turn["role"], "content": turn["content"]} for turn in prompt]
        subset = "/".join(category.split("/")[:3])
        responses = [_answer(record, winner), *losers]
        items.append(Item(id_of(record, name), subset, prompt, responses, 1))
    return items


def _answer(record: Record, field: str) -> str:
    return _text(record.fields.get(field), record, field)


def _losers(record: Record) -> list[str]:
    losers = record.fields.get("loser_list")
    if not isinstance(losers, list) or not losers:
        raise UserError(f"{record.where}: field 'loser_list' must be a list of one or more")
    return [_text(loser, record, f"loser_list[{n}]") for n, loser in enumerate(losers)]


def _text(response: object, record: Record, what: str) -> str:
    if not isinstance(response, dict):
        raise UserError(f'{record.where}: field {what!r} must be {{"answer": ...}}')
    return text_of(Record(response, f"{record.where}: {what}"), "answer")


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The mean of both kinds of both aims, and each of these over its rows."""
    quarters = {
        name: rows_of(own)
        for name in QUARTERS
        if (own := [item for item in items if item.subset.startswith(name)])
    }
    return {"overall": mean_of(quarters.values())} | quarters


RMB = Suite(
    about="RMB: pairs and best of several, the winner against every loser, in 49 scenarios",
    where="GitHub, Zhou-Zoey/RMB-Reward-Model-Benchmark, folder RMB_dataset",
    read=read,
    judge=judge_by(strictly),
    chance=chance_by(strictly),
    averages=averages,
)
