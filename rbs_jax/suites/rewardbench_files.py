"""Results as RewardBench's own tools write them, for its leaderboard and whoever reads those."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbs_jax.data.template import Prompt
from rbs_jax.statistics.figures import mean
from rbs_jax.suites.items import Item, Scores
from rbs_jax.suites.rewardbench import PRIOR
from rbs_jax.suites.rewardbench2 import TIES, TIES_SCORE
from rbs_jax.suites.suite import Judged

MODEL_TYPE = "Seq. Classifier"
"""What the publisher calls a model of one score."""
Files = dict[str, dict[str, Any]]
"""JSON objects by their paths in the publisher's repository of results."""


def files_of_v1(
    model: str, items: Sequence[Item], scores: Scores, judged: Judged, about: Mapping[str, object]
) -> Files:
    """RewardBench v1: accuracy by subset, and each row's scores; prior sets in files of their own.

    Args:
      model: its name, with the organisation.
      items: the rows, in their order.
      scores: of the chosen and the rejected response of each.
      judged: what they are worth.
      about: of the model, by name: "chat_template" at least. Written as text, because whoever
        reads these files takes every number in them for the accuracy of a subset.
    """
    head = _head(model, about)
    files: Files = {}
    for folder, prior in (("eval-set", False), ("pref-sets", True)):
        places = [n for n, item in enumerate(items) if (item.subset in PRIOR) == prior]
        if places:
            own = [items[n] for n in places]
            subsets = dict.fromkeys(item.subset for item in own)
            files[f"{folder}/{model}.json"] = head | {
                subset: float(judged.groups[subset].values.mean()) for subset in subsets
            }
            files[f"{folder}-scores/{model}.json"] = head | {
                "text_chosen": [_conversation(item.prompt, item.responses[0]) for item in own],
                "text_rejected": [_conversation(item.prompt, item.responses[1]) for item in own],
                "results": [int(judged.values[n]) for n in places],
                "subset": [item.subset for item in own],
                "id": [item.id for item in own],
                "scores_chosen": [_number(scores[n][0]) for n in places],
                "scores_rejected": [_number(scores[n][1]) for n in places],
            }
    return files


def files_of_v2(
    model: str, items: Sequence[Item], scores: Scores, judged: Judged, about: Mapping[str, object]
) -> Files:
    """RewardBench 2: the score of each subset, and each row's scores, the right ones first.

    Rows of Ties have no result of their own; their subset has one where both of its kinds are
    there. For the arguments see `files_of_v1`.
    """
    head = _head(model, about)
    names = dict.fromkeys(item.subset for item in items)
    found = {name: {name: 1.0} if name != TIES else TIES_SCORE for name in names}
    there = {name: of for name, of in found.items() if of.keys() <= judged.groups.keys()}
    values = zip(items, judged.values, strict=True)
    return {
        f"eval-set/{model}.json": head | {n: mean(judged.groups, of) for n, of in there.items()},
        f"eval-set-scores/{model}.json": head
        | {
            "text": [[_conversation(i.prompt, text) for text in i.responses] for i in items],
            "scores": [[_number(score) for score in own] for own in scores],
            "results": [None if i.subset == TIES else float(value) for i, value in values],
            "subset": [item.subset for item in items],
            "id": [item.id for item in items],
            "num_correct": [item.right for item in items],
        },
    }


def _head(model: str, about: Mapping[str, object]) -> dict[str, Any]:
    texts = {name: str(value) for name, value in about.items()}
    return {"model": model, "model_type": MODEL_TYPE} | texts


def _conversation(prompt: Prompt, response: str) -> list[dict[str, str]]:
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*map(dict, before), {"role": "assistant", "content": response}]


def _number(score: float) -> float | None:
    return None if np.isnan(score) else float(score)


LAYOUTS = {"rewardbench": files_of_v1, "rewardbench2": files_of_v2}
"""By the suite's name."""
