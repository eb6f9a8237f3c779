import json

import numpy as np
import pytest

from rbs_jax.suites.items import Item
from rbs_jax.suites.rewardbench import REWARDBENCH
from rbs_jax.suites.rewardbench2 import REWARDBENCH2
from rbs_jax.suites.rewardbench_files import files_of_v1, files_of_v2

ABOUT = {"chat_template": "plain", "max_length": 2048}
HEAD = {
    "model": "me/mine",
    "model_type": "Seq. Classifier",
    "chat_template": "plain",
    "max_length": "2048",
}
ASKED, SAID = {"role": "user", "content": "p"}, {"role": "assistant"}


def test_v1_with_prior_sets():
    items = [
        Item("1", "hep-go", "p", ["a", "b"], 1),
        Item("2", "shp", [ASKED], ["c", "d"], 1),
        Item("3", "hep-go", "p", ["e", "f"], 1),
    ]
    scores = [np.array([1.0, 0.5]), np.array([0.0, 1.0]), np.array([np.nan, 0.0])]
    judged = REWARDBENCH.judge(items, scores)
    files = json.loads(json.dumps(files_of_v1("me/mine", items, scores, judged, ABOUT)))
    assert files["eval-set/me/mine.json"] == HEAD | {"hep-go": 0.5}
    assert files["pref-sets/me/mine.json"] == HEAD | {"shp": 0}
    assert files["eval-set-scores/me/mine.json"] == HEAD | {
        "text_chosen": [[ASKED, SAID | {"content": text}] for text in "ae"],
        "text_rejected": [[ASKED, SAID | {"content": text}] for text in "bf"],
        "results": [1, 0],
        "subset": ["hep-go", "hep-go"],
        "id": ["1", "3"],
        "scores_chosen": [1, None],
        "scores_rejected": [0.5, 0],
    }
    assert files["pref-sets-scores/me/mine.json"]["id"] == ["2"]


def test_whoever_reads_v1_takes_numbers_for_accuracies():
    items = [Item("1", "hep-go", "p", ["a", "b"], 1)]
    scores = [np.array([1.0, 0.5])]
    judged = REWARDBENCH.judge(items, scores)
    files = files_of_v1("m", items, scores, judged, ABOUT)
    assert [*files] == ["eval-set/m.json", "eval-set-scores/m.json"]
    numbers = [name for name, value in files["eval-set/m.json"].items() if type(value) is not str]
    assert numbers == ["hep-go"]


def test_v2():
    items = [
        Item("1", "Math", "p", ["a", "b", "c", "d"], 1),
        Item("ref:1", "Ties", "p", ["e", "f"], 1),
        Item("tied:1", "Ties", "p", ["g", "h", "i"], 2),
    ]
    scores = [np.array([1.0, 1.0, 0, 0]), np.array([1.0, 0]), np.array([3.0, 2.0, 0.0])]
    judged = REWARDBENCH2.judge(items, scores)
    files = json.loads(json.dumps(files_of_v2("me/mine", items, scores, judged, ABOUT)))
    assert files["eval-set/me/mine.json"] == HEAD | {
        "Math": 0.5,
        "Ties": pytest.approx(0.3 + 0.3 + 0.2 + 0),
    }
    rows = files["eval-set-scores/me/mine.json"]
    assert rows["results"] == [0.5, None, None]
    assert rows["scores"] == [[1, 1, 0, 0], [1, 0], [3, 2, 0]]
    assert rows["num_correct"] == [1, 1, 2]
    assert rows["text"][1] == [[ASKED, SAID | {"content": text}] for text in "ef"]
    assert rows["id"] == ["1", "ref:1", "tied:1"]
    only_ref = REWARDBENCH2.judge(items[:2], scores[:2])
    files = files_of_v2("m", items[:2], scores[:2], only_ref, ABOUT)
    assert "Ties" not in files["eval-set/m.json"]
