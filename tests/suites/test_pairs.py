from rbs_jax.suites.pairs import PAIRS
from tests.suites.made import (
    chance_is_the_mean_over_random_scores,
    figures,
    refused,
    write,
)

ROWS = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "x", "id": 1},
    {"prompt": [{"role": "user", "content": "q"}], "chosen": ["c", "d"], "rejected": ["e"]},
]


def test_strings_and_lists_are_read(tmp_path):
    items = PAIRS.read(write(tmp_path / "pairs.jsonl", ROWS))
    assert [item.responses for item in items] == [["a", "b"], ["c", "d", "e"]]
    assert [(item.id, item.subset, item.right) for item in items] == [
        ("1", "x", 1),
        (f"{tmp_path}/pairs.jsonl:2", "all", 2),
    ]
    assert figures(PAIRS, items, [[1, 0], [2, 0, 1]]) == {"all_rows": 0.75}
    chance_is_the_mean_over_random_scores(PAIRS, items)


def test_rows_that_are_not_as_they_should_be(tmp_path):
    refused(PAIRS, tmp_path / "a.jsonl", ROWS[0] | {"subset": 3}, ":1", "'subset'")
    refused(PAIRS, tmp_path / "a.jsonl", ROWS[0] | {"chosen": []}, ":1", "'chosen'")
    refused(PAIRS, tmp_path / "a.jsonl", {"prompt": "p", "chosen": "a"}, ":1", "'rejected'")
