import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from rbs_jax.hosts.logs import log_to, note
log_to(Path("logs/process-1.log"), shows={shows})
print("said", flush=True)
print("\\rprogress", end="", file=sys.stderr)
print("refused", file=sys.stderr)
note("a traceback")
os.write(2, b"from C++")
"""


def run(folder, shows):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(shows=shows)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr, (folder / "logs/process-1.log").read_text()


def test_process_0_shows_what_it_logs_but_tracebacks_and_progress(tmp_path):
    out, err, log = run(tmp_path, True)
    assert out == "said\n"
    assert err == "\nprogressrefused\nfrom C++"  # read as text, a carriage return ends a line
    assert log == "said\nrefused\na traceback"


def test_the_others_show_nothing_and_log_what_libraries_say_too(tmp_path):
    out, err, log = run(tmp_path, False)
    assert (out, err) == ("", "")
    for said in ("said", "refused", "a traceback", "from C++"):
        assert said in log


@pytest.mark.parametrize("shows", [True, False])
def test_a_log_is_appended_to(tmp_path, shows):
    run(tmp_path, shows)
    _, _, log = run(tmp_path, shows)
    assert log.count("said") == 2
