"""`pairs`: any file of preferences."""

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import text_of
from rbs_jax.statistics.wins import per_pair
from rbs_jax.suites.items import Item, id_of, read_records, texts_of
from rbs_jax.suites.suite import Suite, chance_by, judge_by, over_rows


def read(path: str) -> list[Item]:
    """Rows of {"prompt", "chosen", "rejected"}, the last two a string or a list of strings.

    `subset` names a part to report by itself, `id` the row; both may be absent.

    Raises:
      UserError: a row lacks a field, or has one of another kind.
    """
    items = []
    for record in read_records(path):
        has_subset = record.fields.get("subset") is not None
        subset = text_of(record, "subset") if has_subset else "all"
        chosen, rejected = texts_of(record, "chosen"), texts_of(record, "rejected")
        prompt = prompt_of(record)
        items.append(Item(id_of(record), subset, prompt, chosen + rejected, len(chosen)))
    return items


PAIRS = Suite(
    about="preference pairs: prompt, chosen, rejected (strings or lists), subset, id",
    where="any .jsonl or .parquet file with these fields",
    read=read,
    judge=judge_by(per_pair),
    chance=chance_by(per_pair),
    averages=over_rows,
)
