import os
import subprocess
import sys
from pathlib import Path

import pytest

import rbs_jax
from rbs_jax.checkers.checked import LINES, check_all
from rbs_jax.checkers.mathematics import GSM8K
from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError
from tests.checkers.made import folder, sentences  # noqa: F401

OWN = """
import os, signal, subprocess

def equal(fields, response):
    return response == fields["answer"], str(os.getpid())

def fails(fields, response):
    return 1 / (fields["answer"] != response)

def interrupts(fields, response):
    if response == fields["answer"]:
        raise KeyboardInterrupt
    return False

def odd(fields, response):
    return True, "\\ud800" if response == fields["answer"] else "fine"

def speaks(fields, response):
    print("printed")
    os.write(1, b"written\\n")
    subprocess.run(["echo", "spoken"], check=True)
    return True

def dies(fields, response):
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)
"""

SCRIPT = """
from rbs_jax.checkers.checked import check_all
from rbs_jax.data.sources import Record

if __name__ == "__main__":
    rows = [Record({"answer": "a"}, f"some.jsonl:{n}") for n in range(20)]
    found = check_all("own_checked:equal", rows, [["a"]] * len(rows))
    with open("right", "w") as file:
        file.write(str(sum(own[0].right for own in found)))
"""


def rows(*answers):
    return [Record({"answer": answer}, f"some.jsonl:{n}") for n, answer in enumerate(answers, 1)]


@pytest.fixture
def own(folder):  # noqa: F811
    (folder / "own_checked.py").write_text(OWN)


def test_in_other_processes_as_in_this_one():
    count = 3 * LINES + 1
    lines = rows(*(str(n % 5) for n in range(count)))
    responses = [[f"#### {k}" for k in range(n % 4)] for n in range(count)]
    told = []
    found = check_all("gsm8k", lines, responses, told.append)
    pairs = zip(lines, responses, strict=True)
    assert found == [[GSM8K.check(row.fields, text) for text in own] for row, own in pairs]
    assert sum(told) == sum(map(len, responses))
    assert len(told) == 4


@pytest.mark.usefixtures("own")
def test_a_function_in_the_current_folder_runs_in_other_processes():
    found = check_all("own_checked:equal", rows("a", "b"), [["a", "b"], ["b"]])
    assert [[verdict.right for verdict in own] for own in found] == [[1.0, 0.0], [1.0]]
    assert {verdict.answer for own in found for verdict in own}.isdisjoint({str(os.getpid())})


@pytest.mark.usefixtures("own")
def test_an_error_names_the_line_and_the_response():
    wrong = r"^some\.jsonl:2, response 3: own_checked:fails raised ZeroDivisionError: division by"
    with pytest.raises(UserError, match=wrong):
        check_all("own_checked:fails", rows("a", "b"), [["x"], ["x", "y", "b"]])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("interrupts", "own_checked:interrupts raised KeyboardInterrupt"),
        ("odd", "the answer that own_checked:odd returned holds a lone surrogate"),
    ],
)
def test_so_does_whatever_a_function_raises_and_an_odd_answer(function, told):
    either = (UserError, KeyboardInterrupt)  # which would end all tests
    with pytest.raises(either, match=rf"^some\.jsonl:1, response 2: {told}"):
        check_all(f"own_checked:{function}", rows("b"), [["a", "b"]])


@pytest.mark.usefixtures("own")
def test_nothing_that_a_function_writes_goes_to_stdout(capfd):
    found = check_all("own_checked:speaks", rows("a"), [["x", "y"]])
    assert found == [[(1.0, None), (1.0, None)]]
    out, err = capfd.readouterr()
    assert out == ""
    assert [err.count(word) for word in ("printed", "written", "spoken")] == [2, 2, 2]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&-"])
def test_it_checks_without_stdout_or_stderr(tmp_path, closed):
    """Their numbers are then those of pipes that the processes are given work by."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = f"exec {sys.executable} {script} {closed}"
    root = Path(rbs_jax.__file__).parents[1]
    subprocess.run(command, shell=True, check=True, timeout=60, env={"PYTHONPATH": str(root)})
    assert (tmp_path / "right").read_text() == "20.0"


def test_so_does_a_line_without_a_reference():
    with pytest.raises(UserError, match=r"^some\.jsonl:1, response 1: no field 'answer'"):
        check_all("math", rows(None), [["5"]])


@pytest.mark.usefixtures("own")
def test_a_killed_process_is_one_line(capfd, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # else all is written at once
    with pytest.raises(UserError, match="checks answers by own_checked:dies ended: killed"):
        check_all("own_checked:dies", rows("a"), [["x"]])
    assert "last words" in capfd.readouterr().err


def test_an_unknown_checker_is_refused_before_any_process_starts():
    with pytest.raises(UserError, match="no checker 'other'"):
        check_all("other", [], [])


def test_of_no_rows_there_are_no_verdicts():
    assert check_all("gsm8k", [], []) == []


@pytest.mark.usefixtures("sentences")
def test_what_ifeval_needs_is_found_in_other_processes():
    fields = {"instruction_id_list": ["length_constraints:number_sentences"]}
    fields["kwargs"] = [{"num_sentences": 2, "relation": "at least"}]
    found = check_all("ifeval", [Record(fields, "some.jsonl:1")], [["One. Two.", "One."]])
    assert found == [[(1.0, None), (0.0, None)]]
