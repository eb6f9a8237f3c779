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
    ("change", "said"),
    [
        ({"scores": [1, 2]}, "no line of rbs bon"),
        ({"scores": None}, "no line of rbs bon"),
        ({"scores": "abc"}, "scores is 'a', not a number"),
        ({"scores": [1, "3", 2]}, "scores is '3', not a number"),
        ({"scores": [1, float("nan"), 2]}, "scores is nan, not a number"),
        ({"controls": []}, "no line of rbs bon"),
        ({"controls": {"longer": [1, True, 2]}}, "longer is True, not a number"),
        ({"random_heads": [[1, 2]]}, "no line of rbs bon"),
        ({"answers": ["a"]}, "field 'answers' must be a list of 3"),
        ({"answers": [["a"], None, None]}, "field 'answers'[0] is list, not a string"),
        ({"gold": [1, 2, "x"]}, "field 'gold'[2] is 'x', not a number"),
        ({"correct": [1, 7, 0]}, "field 'correct'[1] is 7, neither true, false nor a share"),
        ({"prompt": "the prompt"}, "no line of rbs bon"),
        ({"weight": 0}, "a weight below 1"),
        ({"weight": "many"}, "no line of rbs bon"),
    ],
)
def test_a_line_that_is_none_of_ours_is_named(change, said):
    with pytest.raises(UserError) as caught:
        pool_of(Record(told() | change, "f:1"))
    assert str(caught.value).startswith("f:1: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("gone", ["scores", "controls", "weight", "id", "prompt"])
def test_a_line_that_lacks_a_field_is_named(gone):
    line = told()
    del line[gone]
    with pytest.raises(UserError, match=f"KeyError: '{gone}'"):
        pool_of(Record(line, "f:1"))
