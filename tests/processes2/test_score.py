"""What several processes score is what one scores."""

import json
import time

import pytest

from rbs_jax.score.files import LINES
from tests.processes2.pods import KILL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(pods):
    lines = [
        {"id": index, "prompt": "abcd efgh " * (index % 5), "responses": ["bcda"] * (index % 4)}
        | {"more": [f"fg {index}"]}
        for index in range(20)
    ]
    for line in lines:
        line["responses"] += line.pop("more")
    path = pods.folder / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("processes", [2, 4])
def test_the_file_of_several_processes_is_that_of_one(pods, unbroken, file, processes):
    out = f"scored-by-{processes}.jsonl"
    done = pods.run("score", "unbroken", file.name, "--out", out, processes=processes)
    assert done.statuses == [0] * processes, done.logs
    if not (alone := pods.folder / "scored.jsonl").exists():
        pods.run("score", "unbroken", file.name, "--out", alone.name, processes=1, devices=1)
    ours = [json.loads(line) for line in (pods.folder / out).read_text().splitlines()]
    theirs = [json.loads(line) for line in alone.read_text().splitlines()]
    assert len(ours) == 20
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.pop("scores") == pytest.approx(other.pop("scores"), rel=1e-5, abs=1e-6)
        assert mine == other
    assert not (pods.folder / f"{out}.partial").exists()


def test_a_pod_that_lost_a_process_goes_on_as_a_larger_one(pods, unbroken):
    lines = [{"prompt": "abcd " * (n % 3), "responses": [f"bcda {n}"]} for n in range(3 * LINES)]
    (pods.folder / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command, parts = ("score", "unbroken", "long.jsonl"), pods.folder / "long.partial"
    running = pods.start(*command, "--out", "long", processes=2)
    while not any(parts.glob("part-*.jsonl")):
        assert running.processes[0].poll() is None, running.log(0)
        time.sleep(0.005)
    running.signal(1, KILL)
    assert running.end().status
    done = pods.run(*command, "--out", "long", processes=4)
    assert done.statuses == [0] * 4, done.logs
    result = json.loads(next(line for line in done.said.splitlines() if line.startswith("{")))
    assert LINES <= result["scored_before"] < 3 * LINES == result["responses"]
    pods.run(*command, "--out", "alone", processes=1, devices=1)
    ours, theirs = (
        [json.loads(line) for line in (pods.folder / name).read_text().splitlines()]
        for name in ("long", "alone")
    )
    assert [line.pop("scores")[0] for line in ours] == pytest.approx(
        [line.pop("scores")[0] for line in theirs], rel=1e-4, abs=1e-5
    )
    assert ours == theirs == lines
    assert not parts.exists()


def test_held_out_figures_of_two_processes_are_those_of_one(pods, unbroken):
    results = []
    for processes in (1, 2):
        out = f"measured-by-{processes}"
        command = ("eval", "unbroken", "heldout", "--data", "corpora/test", "--out", out)
        done = pods.run(*command, processes=processes)
        assert done.statuses == [0] * processes, done.logs
        results.append(json.loads((pods.folder / out / "result.json").read_text()))
    assert results[0]["n"] == results[1]["n"] > 0
    assert results[0]["accuracy"] == pytest.approx(
        results[1]["accuracy"], abs=0.5 / results[0]["n"]
    )
