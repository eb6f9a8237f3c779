import sys

import pytest

from rbs_jax.checkers.table import find_checker
from rbs_jax.errors import UserError
from tests.checkers.made import folder  # noqa: F401

OWN = """
import numpy as np

def returns(fields, response):
    return fields["value"]

def numpy_bool(fields, response):
    return np.bool_(fields["answer"] == response), response

def numpy_number(fields, response):
    return np.float32(0.25)

def fails(fields, response):
    return fields["absent"]

def leaves(fields, response):
    raise SystemExit("over\\nand out")

def interrupts(fields, response):
    raise KeyboardInterrupt

def closes(fields, response):
    raise GeneratorExit("closed")

def empties(fields, response):
    right = response in fields["keys"][0]["words"]
    fields["keys"][0]["words"].clear()
    fields.clear()
    return right

constant = 3
"""


@pytest.fixture
def own(folder):  # noqa: F811
    (folder / "own_rules.py").write_text(OWN)


def check(function, **fields):
    return find_checker(f"own_rules:{function}").check(fields, "yes")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (True, (1.0, None)),
        (False, (0.0, None)),
        (1, (1.0, None)),
        (0.5, (0.5, None)),
        ((True, "yes"), (1.0, "yes")),
        ((0.5, None), (0.5, None)),
        ((True, " yes\n"), (1.0, "yes")),  # as in a line's "answers"
        ((True, " "), (1.0, "")),
        ((True, ""), (1.0, "")),
    ],
)
def test_what_a_function_may_return(value, verdict):
    found = check("returns", value=value)
    assert found == verdict
    assert type(found.right) is float


@pytest.mark.usefixtures("own")
def test_numpys_kinds_are_as_good():
    assert check("numpy_bool", answer="yes") == (1.0, "yes")
    assert check("numpy_bool", answer="no") == (0.0, "yes")
    assert check("numpy_number") == (0.25, None)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "value",
    [None, "yes", 1.1, -0.1, float("nan"), (True,), (True, 5), (True, "a", "b"), [True, "a"], 1j],
)
def test_anything_else_is_refused(value):
    with pytest.raises(UserError, match=r"own_rules:returns returned .*; it should return a bool"):
        check("returns", value=value)


@pytest.mark.usefixtures("own")
def test_an_error_of_the_function_is_one_line():
    with pytest.raises(UserError, match=r"^own_rules:fails raised KeyError: 'absent'$"):
        check("fails")
    with pytest.raises(UserError, match=r"^own_rules:leaves raised SystemExit: over and out$"):
        check("leaves")
    either = (UserError, KeyboardInterrupt)  # which would end all tests
    with pytest.raises(either, match=r"^own_rules:interrupts raised KeyboardInterrupt:$"):
        check("interrupts")
    with pytest.raises(UserError, match=r"^own_rules:closes raised GeneratorExit: closed$"):
        check("closes")


@pytest.mark.usefixtures("own")
def test_what_a_function_does_to_the_fields_is_forgotten():
    fields = {"keys": [{"words": ["yes"]}]}
    empties = find_checker("own_rules:empties").check
    assert [empties(fields, "yes").right for _ in range(3)] == [1.0, 1.0, 1.0]
    assert fields == {"keys": [{"words": ["yes"]}]}


@pytest.mark.usefixtures("own")
def test_an_answer_that_no_file_can_hold_is_refused():
    told = "^the answer that own_rules:returns returned holds a lone surrogate$"
    with pytest.raises(UserError, match=told):
        check("returns", value=(True, "\ud800"))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("function", ["absent", "constant", ""])
def test_no_such_function(function):
    with pytest.raises(UserError, match=f"own_rules has no function '{function}'"):
        find_checker(f"own_rules:{function}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "ModuleNotFoundError: No module named 'own_broken'"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f(", "SyntaxError: "),
        ("raise SystemExit('early')", "SystemExit: early"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported(folder, text, told):  # noqa: F811
    if text is not None:
        (folder / "own_broken.py").write_text(text)
    with pytest.raises(UserError, match=f"cannot import 'own_broken': {told}") as caught:
        find_checker("own_broken:f")
    assert "\n" not in str(caught.value)


def test_no_module_at_all():
    with pytest.raises(UserError, match="cannot import ''"):
        find_checker(":f")


@pytest.mark.usefixtures("own")
def test_the_current_folder_comes_first_and_once(tmp_path):
    for _ in range(2):
        find_checker("own_rules:returns")
    assert sys.path[0] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
