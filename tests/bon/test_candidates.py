import numpy as np
import pytest

from rbs_jax.bon.candidates import candidates_of, labels_of, pools_of, refuse_partly_known
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError
from tests.bon.made import pool

LINE = {
    "prompt": "p",
    "responses": ["a", "b", "c"],
    "correct": [True, False, 0.25],
    "answers": [" 7", None, "8"],
    "gold": [1, 2.5, -3],
    "logprob": [-0.5, -1, -2],
    "source": ["x", "y", "x"],
}


def read(**fields):
    return candidates_of([Record(LINE | fields, "file.jsonl:3")])


def test_all_that_a_line_knows_is_read():
    (item,), (known,) = read()
    assert (item.prompt, item.responses, item.right) == ("p", ["a", "b", "c"], 0)
    assert known.correct.tolist() == [1, 0, 0.25]
    assert known.answers == ["7", None, "8"]
    assert known.gold.tolist() == [1, 2.5, -3]
    assert known.logprob.tolist() == [-0.5, -1, -2]
    assert known.source == ["x", "y", "x"]
    assert known.weight == 1


@pytest.mark.parametrize("change", [{"correct": [0, 0, 1]}, {"answers": None}, {"gold": [1, 2, 3]}])
def test_labels_are_the_same_where_all_is_known_alike(change):
    (_, one), (_, again), (_, other) = read(), read(id="another"), read(**change)
    assert labels_of(one) == labels_of(again) != labels_of(other)


def test_what_is_absent_or_null_is_not_known():
    _, (known,) = candidates_of([Record({"prompt": "p", "responses": []}, "f:1")])
    assert known[:5] == (None,) * 5
    _, (known,) = read(correct=None, answers=None, gold=None, logprob=None, source=None)
    assert known[:5] == (None,) * 5


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("correct", [True, False], "must be a list of 3 values, one a response; it has 2"),
        ("correct", True, "it is bool"),
        ("correct", [True, False, 1.5], "[2] is 1.5, neither true, false nor a share"),
        ("correct", [True, False, "yes"], "[2] is 'yes', neither true, false nor a share"),
        ("gold", [1, 2, True], "[2] is True, not a number from"),
        ("gold", [1, 2, float("nan")], "[2] is nan, not a number from"),
        ("gold", [1, 2, 10**400], "[2] is 1000"),
        ("gold", [1, 2, 1e31], "[2] is 1e+31, not a number from -1e+30 to 1e+30"),
        ("logprob", [1, None, 2], "[1] is None, not a number from"),
        ("answers", ["1", 2, None], "[1] is int, not a string"),
        ("source", ["x", None, "y"], "[1] is NoneType, not a string"),
        ("responses", "abc", "must be a list of strings"),
    ],
)
def test_a_wrong_field_is_named(field, value, said):
    with pytest.raises(UserError) as caught:
        read(**{field: value})
    assert str(caught.value).startswith(f"file.jsonl:3: field {field!r}")
    assert said in str(caught.value)


@pytest.mark.parametrize("field", ["correct", "answers", "gold"])
def test_what_only_some_lines_know_is_refused(field):
    records = [Record(LINE | {"id": at}, f"f:{at}") for at in (1, 2, 3)]
    refuse_partly_known(records, candidates_of(records)[1])
    records[1].fields[field] = None
    with pytest.raises(UserError, match=f"^f:2: no field '{field}', which f:1 has"):
        refuse_partly_known(records, candidates_of(records)[1])


def test_a_pool_has_its_own_numbers_and_a_score_that_is_none_is_lowest():
    items, known = candidates_of([Record(LINE, "f:1"), Record(LINE | {"prompt": "q"}, "f:2")])
    scores = [np.array([1.0, np.nan, 2.0]), np.zeros(3)]
    found = pools_of(items, known, scores, {"longer": scores}, [scores[::-1]])
    assert found[0].scores.tolist() == [[1.0, -np.inf, 2.0]]
    assert found[0].controls["longer"].tolist() == [1.0, -np.inf, 2.0]
    assert found[1].heads[0].tolist() == [[1.0, -np.inf, 2.0]]
    assert found[0].prompt != found[1].prompt
    assert found[0].size == 3


def test_some_of_a_pool_is_a_pool():
    found = pool(
        [[1, 2, 3], [4, 5, 6]],
        [1, 0, 1],
        controls={"longer": [7, 8, 9]},
        heads=[[[1, 2, 3], [4, 5, 6]]],
        answers=["a", "b", "c"],
        source=["x", "y", "x"],
        gold=[1, 2, 3],
        logprob=[4, 5, 6],
    ).only([2, 0])
    assert found.scores.tolist() == [[3, 1], [6, 4]]
    assert found.heads[0].tolist() == [[3, 1], [6, 4]]
    assert found.controls["longer"].tolist() == [9, 7]
    known = found.known
    assert (known.correct.tolist(), known.answers, known.source) == ([1, 1], ["c", "a"], ["x", "x"])
    assert (known.gold.tolist(), known.logprob.tolist()) == ([3, 1], [6, 4])
