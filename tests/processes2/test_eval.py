"""What several processes measure on a benchmark is what one measures."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_a_benchmark_of_two_processes_is_that_of_one(pods, unbroken):
    rows = [
        {"id": n, "prompt": "abcd efgh " * (n % 5), "chosen": f"bcda {n}", "rejected": "fg " * n}
        for n in range(1, 12)
    ]
    path = pods.folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for processes in (1, 2):
        out = f"pairs-by-{processes}"
        command = ("eval", "unbroken", "pairs", "--data", path.name, "--out", out)
        done = pods.run(*command, processes=processes)
        assert done.statuses == [0] * processes, done.logs
        lines = (pods.folder / out / "scores.jsonl").read_text().splitlines()
        result = json.loads((pods.folder / out / "result.json").read_text())
        found.append((result, [json.loads(line)["scores"] for line in lines]))
    (one, scores), (other, same) = found
    for ours, theirs in zip(scores, same, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    for field in ("n", "items", "accuracy", "controls", "random_heads", "inside_controls"):
        assert one[field] == other[field]


def test_the_best_of_n_by_two_processes_is_that_of_one(pods, unbroken):
    rows = [
        {
            "prompt": "abcd efgh " * (n % 5),
            "responses": [f"bcda {n}", "fg " * n, "a"][: 2 + n % 2],
            "correct": [True, False, n % 3 == 0][: 2 + n % 2],
        }
        for n in range(1, 12)
    ]
    path = pods.folder / "candidates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for processes in (1, 2):
        out = f"picked-by-{processes}"
        done = pods.run("bon", "unbroken", path.name, "--out", out, processes=processes)
        assert done.statuses == [0] * processes, done.logs
        found.append(json.loads((pods.folder / out / "result.json").read_text()))
        best = (pods.folder / out / "best.jsonl").read_text().splitlines()
        found.append([json.loads(line)["response"] for line in best])
    one, best, other, same = found
    assert best == same
    assert len(best) == 11
    for field in ("n", "prompts", "candidates", "rm", "controls", "random_heads", "map"):
        assert one[field] == other[field]
