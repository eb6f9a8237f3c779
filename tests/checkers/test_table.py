import pytest

from rbs_jax.checkers.checker import Checker
from rbs_jax.checkers.table import CHECKERS, find_checker
from rbs_jax.errors import UserError
from tests.checkers.made import sentences  # noqa: F401


@pytest.mark.usefixtures("sentences")
@pytest.mark.parametrize("name", CHECKERS)
def test_each_is_found_by_its_name(name):
    found = find_checker(name)
    assert found is CHECKERS[name]
    assert found.about


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"no checker 'gsm9k'; there are gsm8k, .*module:function"):
        find_checker("gsm9k")


def test_what_is_not_ready_is_not_found(monkeypatch):
    def refuse():
        raise UserError("install it")

    monkeypatch.setitem(CHECKERS, "toxigen", Checker("", CHECKERS["toxigen"].check, ready=refuse))
    with pytest.raises(UserError, match="install it"):
        find_checker("toxigen")


def test_a_line_counts_once_but_for_ifevals_instructions():
    fields = {"instruction_id_list": ["a", "b", "c"]}
    three = {name for name, checker in CHECKERS.items() if checker.weight(fields) == 3}
    assert three == {"ifeval_instructions", "ifeval_instructions_loose"}
    assert {CHECKERS[name].weight(fields) for name in CHECKERS.keys() - three} == {1}


def test_gsm8k_alone_knows_gsm8ks_mark():
    fields = {"answer": "129200"}
    response = "The final answer is $76,000 + $53,200 = $129,200. #### 129200"
    assert find_checker("gsm8k").check(fields, response).right == 1.0
    assert find_checker("math").check(fields, response).right == 0.0
