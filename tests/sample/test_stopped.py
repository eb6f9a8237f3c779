"""Killed in the middle, or interrupted while a server hangs: nothing is held, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

COMMAND = """
import sys
from rbs_jax.__main__ import run

def main():
    from rbs_jax.data.sources import read_jsonl
    from rbs_jax.sample.candidates import sample
    from rbs_jax.sample.config import SampleConfig
    url, file, out = sys.argv[1:]
    sample(list(read_jsonl(file)), url, out, SampleConfig(n=4, at_once=3))
    return 0

run(main)
"""
LINES = [{"prompt": f"prompt {at}", "id": at} for at in range(50)]


def start(folder, server, out):
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, server.url, str(file), str(folder / out)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, is_there):
    deadline = time.monotonic() + 60
    while not is_there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path, server):
    process = start(tmp_path, server, "unbroken.jsonl")
    assert process.wait(timeout=60) == 0, process.communicate()
    parts = tmp_path / "out.jsonl.partial"
    finished = 0
    for at_least in (10, 30):
        server.delay = 0.01
        server.asked.clear()
        process = start(tmp_path, server, "out.jsonl")
        wait_for(process, lambda n=at_least: len(list(parts.glob("part-*"))) >= n)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        asked = {body["messages"][0]["content"] for body in server.draws}
        assert not asked & {line["prompt"] for line in LINES[:finished]}
        finished = len(list(parts.glob("part-*")))
    server.delay = 0
    server.asked.clear()
    process = start(tmp_path, server, "out.jsonl")
    assert process.wait(timeout=60) == 0, process.communicate()
    drawn = {(body["messages"][0]["content"], body["seed"]) for body in server.draws}
    assert len(drawn) == 4 * (50 - finished)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()
    assert not parts.exists()


def test_an_interrupt_waits_for_no_answer(tmp_path, server):
    server.hangs.set()
    process = start(tmp_path, server, "out.jsonl")
    wait_for(process, lambda: server.asked)
    interrupt(process)
    server.hangs.clear()
    server.asked.clear()
    answer = server.answer

    def hanging(path, body):
        if body is not None and body["messages"][0]["content"] == "prompt 1":
            server.hangs.set()
        return answer(path, body)

    server.answer = hanging
    process = start(tmp_path, server, "out.jsonl")
    wait_for(process, lambda: server.under_way == 3 and server.hangs.is_set())
    interrupt(process)
    assert not (tmp_path / "out.jsonl").exists()


def interrupt(process):
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130  # the server answers later or never
    assert process.communicate()[1] == "rbs: interrupted\n"
