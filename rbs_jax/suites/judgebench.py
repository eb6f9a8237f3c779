"""`judgebench`: JudgeBench (arXiv:2410.12784): two answers, one of them objectively right."""

from collections.abc import Sequence

from rbs_jax.data.answers import prompt_of
from rbs_jax.data.sources import text_of
from rbs_jax.statistics.figures import Weights
from rbs_jax.statistics.wins import strictly
from rbs_jax.suites.items import Item, id_of, one_of, read_records
from rbs_jax.suites.suite import Suite, chance_by, judge_by, over_rows, rows_of

SOURCES = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
"""What the source of a question begins with, by which the publisher's report is split."""


def read(path: str) -> list[Item]:
    """Rows of {"question", "response_A", "response_B", "label", "source", "pair_id"}.

    A source that begins as none of the publisher's is a subset of its own: others write such files.

    Raises:
      UserError: a row lacks a field, or its label is neither A>B nor B>A.
    """
    items = []
    for record in read_records(path):
        label = one_of(record, "label", ("A>B", "B>A"))
        responses = [text_of(record, f"response_{side}") for side in label.split(">")]
        source = text_of(record, "source")
        subset = next((name for name in SOURCES if source.startswith(name)), source)
        prompt = prompt_of(record, "question")
        items.append(Item(id_of(record, "pair_id"), subset, prompt, responses, 1))
    return items


def averages(items: Sequence[Item]) -> dict[str, Weights]:
    """The mean over pairs, and over those of each source."""
    subsets = dict.fromkeys(item.subset for item in items)
    by_source = {name: rows_of([i for i in items if i.subset == name]) for name in subsets}
    found = over_rows(items)  # stays the headline, whatever a source is called
    return found | by_source | found


JUDGEBENCH = Suite(
    about="JudgeBench: two answers of a strong model, one right and one subtly wrong",
    where="GitHub, ScalerLab/JudgeBench, folder data, or Hugging Face, data set of that name",
    read=read,
    judge=judge_by(strictly),
    chance=chance_by(strictly),
    averages=averages,
)
