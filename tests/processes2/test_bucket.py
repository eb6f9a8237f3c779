"""A pod of real processes whose run lies in a bucket."""

import pytest

from rbs_jax.train.metrics import read_metrics
from tests.processes2.pods import KILL

pytestmark = pytest.mark.slow


def test_two_processes_save_in_a_bucket_and_go_on_after_a_kill(pods, unbroken, gs, tmp_path):
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
