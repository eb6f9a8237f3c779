"""launch/again.sh, with commands that count their runs."""

import os
import signal
import subprocess
import time

import pytest

from tests.launch.conftest import LAUNCH

COUNTED = 'echo run >>runs; n=$(wc -l <runs); set -- {}; shift $((n - 1)); exit "$1"'


def again(folder, script, **settings):
    return subprocess.run(
        [LAUNCH / "again.sh", "bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PAUSE": "0", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("statuses", "runs", "last"),
    [("0 9", 1, 0), ("2 9", 1, 2), ("75 1 134 0 9", 4, 0), ("1 2 9", 2, 2), ("1 1 1 1 9", 3, 1)],
)
def test_it_runs_again_until_done_a_users_mistake_or_too_often(tmp_path, statuses, runs, last):
    done = again(tmp_path, COUNTED.format(statuses), MOST="2" if runs == 3 else "5")
    assert len((tmp_path / "runs").read_text().split()) == runs
    assert done.returncode == last


def test_arguments_arrive_as_they_are(tmp_path):
    subprocess.run([LAUNCH / "again.sh", "mkdir", "a b", "$HOME;c"], cwd=tmp_path, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a b", "$HOME;c"}


SAVES = 'trap "sleep 0.5; echo saved; exit 75" TERM; echo up; while :; do sleep 0.05; done'


@pytest.mark.parametrize("script", [SAVES, "echo up; exit 75"], ids=["at work", "in the pause"])
def test_a_signal_goes_on_to_the_command_and_ends_it_all(tmp_path, script):
    process = subprocess.Popen(
        [LAUNCH / "again.sh", "bash", "-c", script],
        env={**os.environ, "PAUSE": "600"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 75
    if script == SAVES:
        assert process.stdout.read() == "saved\n", "it waited"
