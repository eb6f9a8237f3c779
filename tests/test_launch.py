import pytest

from rbs_jax.errors import UserError
from rbs_jax.launch import Launch, options_before, parse

MEET = ["--coordinator", "10.0.0.1:1234", "--processes", "2", "--process", "1"]


def test_options_stand_before_the_command_and_the_command_keeps_its_own():
    launch, command = parse([*MEET, "--logs=x", "train", "a.py", "--out", "gs://b/run"])
    assert (launch.coordinator, launch.processes, launch.process) == ("10.0.0.1:1234", 2, 1)
    assert str(launch.logs) == "x"
    assert command == ["train", "a.py", "--out", "gs://b/run"]


def test_one_process_needs_no_option():
    launch, command = parse(["score", "--help"])
    assert launch == Launch()
    assert command == ["score", "--help"]


def test_a_value_named_like_a_command_is_a_value():
    launch, command = parse(["--logs", "train", "score"])
    assert str(launch.logs) == "train"
    assert command == ["score"]
    assert options_before(["--logs"]) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (MEET[:2], "give --coordinator, --processes and --process together"),
        (MEET[2:], "give --coordinator, --processes and --process together"),
        ([*MEET[:5], "2"], r"--process is 2, of --processes 2 it must be between 0 and 1"),
        (["--coordinator", "host", *MEET[2:]], "--coordinator is host, it must be HOST:PORT"),
        (["--simulate", "0"], "--simulate is 0, it must be at least 1"),
        (["--process", "one"], "launch/tpu.py --help"),
        (["--proces", "1"], "launch/tpu.py --help"),
    ],
)
def test_what_does_not_fit_is_refused(args, said):
    with pytest.raises(UserError, match=said):
        parse([*args, "train"])
