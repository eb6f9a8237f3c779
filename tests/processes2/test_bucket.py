"""A pod of real processes whose run and files lie in a bucket."""

import json

import pytest

from rbs_jax.score.files import score_file
from rbs_jax.train.metrics import read_metrics
from tests.processes2.pods import KILL

pytestmark = pytest.mark.slow


def test_two_processes_train_and_score_in_a_bucket(pods, unbroken, gs, tmp_path):
    steps = ("--train.checkpoint-every", "8")
    train = ("train", "tiny.py", "--out", f"{gs.url}/run", *steps)
    pod = pods.start(*train)
    pod.until("step 17/")
    pod.signal(1, KILL)
    assert 0 not in pod.end().statuses
    done = pods.run(*train)
    assert done.statuses == [0, 0], done.said
    assert "resuming at step 8" in done.said or "resuming at step 16" in done.said
    (tmp_path / "metrics.jsonl").write_bytes(gs.get("run/metrics.jsonl"))
    got, expected = (read_metrics(out / "metrics.jsonl") for out in (tmp_path, unbroken))
    assert [record["step"] for record in got] == [record["step"] for record in expected]
    losses = [[record["loss"] for record in records] for records in (got, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    parts = [name for name in gs.names() if "/24/params/array_metadatas/" in name]
    assert [name.rpartition("/")[2] for name in parts] == ["process_0", "process_1"]
    lines = [{"prompt": "abcd efgh", "responses": ["bcda", "fg"] * count} for count in range(4)]
    file = gs.put("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    done = pods.run("score", f"{gs.url}/run", file, "--out", f"{gs.url}/out")
    assert done.statuses == [0, 0], done.said
    score_file(f"{gs.url}/run", file, str(tmp_path / "out"))
    got, expected = (
        [score for line in text.splitlines() for score in json.loads(line)["scores"]]
        for text in (gs.get("out"), (tmp_path / "out").read_bytes())
    )
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert len(got) == 12
    assert not [name for name in gs.names() if name.endswith(".partial")]
