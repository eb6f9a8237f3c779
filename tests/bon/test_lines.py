import json

import numpy as np
import pytest

from rbs_jax.bon.lines import chosen, line_of, pool_of
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError
from tests.bon.made import pool

OWN = pool(
    [1.5, -np.inf, 2.5],
    [1, 0, 0.5],
    7,
    {"longer": [1, 2, 3]},
    [[1, -np.inf, 2], [3, -np.inf, 4]],
    answers=["a", None, "b"],
    gold=[1, 2, 3],
    source=["x", "y", "x"],
    weight=2,
)


def told():
    return json.loads(json.dumps(line_of(OWN), allow_nan=False))


def test_a_line_tells_all_and_is_read_again():
    line = told()
    assert line["scores"] == [1.5, None, 2.5]
    assert line["chosen"] == 2
    found = pool_of(Record(line, "f:1"))
    for own, expected in zip(found.known, OWN.known, strict=True):
        np.testing.assert_array_equal(own, expected)
    np.testing.assert_array_equal(found.scores, OWN.scores)
    np.testing.assert_array_equal(found.heads, OWN.heads)
    np.testing.assert_array_equal(found.controls["longer"], OWN.controls["longer"])
    assert found[:2] == OWN[:2]


def test_the_first_of_the_highest_is_chosen_and_none_where_there_is_no_score():
    assert chosen(pool([1, 3, 3])) == 1
    assert chosen(pool([-np.inf, -np.inf])) is None
    assert chosen(pool([])) is None


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [1, 2]},
        {"scores": None},
        {"scores": "abc"},
        {"controls": []},
        {"random_heads": [[1, 2]]},
        {"answers": ["a"]},
        {"gold": [1, 2, "x"]},
        {"weight": 0},
        {"weight": "many"},
    ],
)
def test_a_line_that_is_none_of_ours_is_named(change):
    with pytest.raises(UserError, match=r"^f:1: no line of rbs bon .*run rbs bon again$"):
        pool_of(Record(told() | change, "f:1"))


@pytest.mark.parametrize("gone", ["scores", "correct", "weight", "id", "source"])
def test_a_line_that_lacks_a_field_is_named(gone):
    line = told()
    del line[gone]
    with pytest.raises(UserError, match=f"KeyError: '{gone}'"):
        pool_of(Record(line, "f:1"))
