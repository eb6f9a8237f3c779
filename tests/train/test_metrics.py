import json
from types import SimpleNamespace

import pytest

from rbs_jax.data.stream import Work
from rbs_jax.errors import UserError
from rbs_jax.files import write_json
from rbs_jax.train import metrics as metrics_file
from rbs_jax.train.metrics import TIME_FIELDS, Clock, Metrics, device_memory, read_metrics, speeds

RECORD = {
    "loss": 0.5,
    "pair_accuracy": 0.5,
    "top1": 0.1,
    "pairs_per_second": 9.0,
    "skipped_updates": 0,
}


def record(step):
    return RECORD | {"step": step}


def test_starting_again_cuts_back_to_the_restored_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record(step)) + "\n" for step in (1, 2, 3, 4)))
    with Metrics(path, read_metrics(path)[:2], start=2, steps=9) as metrics:
        metrics.write(record(3) | {"loss": 0.25})
    assert [(r["step"], r["loss"]) for r in read_metrics(path)] == [(1, 0.5), (2, 0.5), (3, 0.25)]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(1)) + "\n" + json.dumps(record(2))[:20])
    assert [r["step"] for r in read_metrics(path)] == [1]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(1)) + "\nnonsense\n" + json.dumps(record(2)) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not valid JSON"):
        read_metrics(path)


def test_without_a_terminal_progress_is_plain_lines(tmp_path, capsys):
    with Metrics(tmp_path / "metrics.jsonl", [], start=0, steps=9) as metrics:
        metrics.write(record(3))
        metrics.write(record(4) | {"skipped_updates": 2})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "step 3/9 loss 0.5000 pair 0.500 top1 0.100 9 pairs/s"
    assert second == "step 4/9 loss 0.5000 pair 0.500 top1 0.100 9 pairs/s skipped 2"


def test_what_is_not_finite_is_null_so_that_every_line_is_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Metrics(path, [], start=0, steps=9) as metrics:
        metrics.write(record(3) | {"loss": float("nan"), "grad_norm": float("inf")})
    assert "NaN" not in path.read_text()
    (read,) = read_metrics(path)
    assert (read["loss"], read["grad_norm"], read["step"]) == (None, None, 3)


def test_json_is_written_whole_with_nothing_left_beside(tmp_path):
    write_json(tmp_path / "result.json", {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": 1}


WORK = Work(pairs=18, unique_tokens=72, tokens=156, prefix_length=5, suffix_length=7)


def test_speeds_by_hand(monkeypatch):
    """2 grids of 3 prefixes of 5 + 7 tokens, 4 steps in 8 seconds.

    2 of them were waits for data, 1 for two checkpoints; 3 more were none of the steps'.
    """
    now = iter([100.0, 102.0, 105.0, 106.0, 106.75, 107.0, 107.25, 111.0, 113.0])
    monkeypatch.setattr(metrics_file.time, "perf_counter", lambda: next(now))
    clock = Clock(WORK, flops=600, peak=1000.0, start=10)
    with clock.left_out():
        pass
    for _ in range(2):
        with clock.saving():
            pass
    assert clock.lap(14, waited=2.0) == {
        "seconds": 8.0,
        "pairs_per_second": 2 * 9 * 4 / 8,
        "unique_tokens_per_second": 2 * 3 * (5 + 7) * 4 / 8,
        "tokens_per_second": (2 * 3 * 5 + 2 * 9 * 7) * 4 / 8,
        "flops_per_second": 600 * 4 / 8,
        "mfu": 0.3,
        "data_wait_share": 0.25,
        "checkpoint_share": 0.125,
        "compute_share": 0.625,
    }
    assert clock.lap(15, waited=3.0)["compute_share"] == 0.5, "counted from the last lap"


def test_without_a_known_peak_the_share_of_it_is_null_and_not_shown(tmp_path, capsys):
    lap = Clock(WORK, flops=600, peak=None, start=0).lap(1, waited=0.0)
    assert lap["mfu"] is None
    assert lap["flops_per_second"] == 600 / lap["seconds"]
    with Metrics(tmp_path / "metrics.jsonl", [], start=0, steps=9) as metrics:
        metrics.write(record(3) | {"mfu": None})
        metrics.write(record(4) | {"mfu": 0.4567})
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("9 pairs/s")
    assert second.endswith("9 pairs/s mfu 45.7%")


def test_memory_is_of_the_fullest_device(monkeypatch):
    def device(stats):
        return SimpleNamespace(memory_stats=lambda: stats)

    devices = [
        device({"bytes_in_use": 3e9, "peak_bytes_in_use": 4e9, "num_allocs": 7}),
        device({"bytes_in_use": 2e9, "peak_bytes_in_use": 5e9}),
        device(None),
    ]
    monkeypatch.setattr(metrics_file.jax, "local_devices", lambda: devices)
    in_use, peak = "device_memory_gigabytes", "device_memory_peak_gigabytes"
    assert device_memory() == {in_use: 3.0, peak: 5.0}
    monkeypatch.setattr(metrics_file.jax, "local_devices", lambda: [device({"bytes_in_use": 1e9})])
    assert device_memory() == {in_use: 1.0, peak: None}
    monkeypatch.setattr(metrics_file.jax, "local_devices", lambda: [device(None)])
    assert device_memory() == {in_use: None, peak: None}
    assert {in_use, peak} < set(TIME_FIELDS), "two equal runs may differ in it"


class Drawn:
    """Curves that remember what they are given."""

    def __init__(self):
        self.steps, self.failed = [], None

    def write(self, record):
        self.steps.append(record["step"])

    def close(self, failed):
        self.failed = failed


def test_curves_get_each_record_and_hear_how_the_run_ended(tmp_path):
    drawn = Drawn()

    def run(fails):
        with Metrics(tmp_path / "metrics.jsonl", [], 0, 9, [drawn]) as metrics:
            metrics.write(record(3))
            metrics.write(record(4) | {"loss": float(fails)})
            1 / (not fails)

    run(fails=False)
    assert (drawn.steps, drawn.failed) == ([3, 4], False)
    with pytest.raises(ZeroDivisionError):
        run(fails=True)
    assert drawn.failed


def test_medians_are_over_the_records_that_have_a_speed(tmp_path):
    """Those of an earlier version, or of a chip without a known peak, may lack one."""
    path, speed = tmp_path / "metrics.jsonl", {"seconds": 2.0, "pairs_per_second": 3.0}
    lines = [speed, speed | {"mfu": None}, speed | {"mfu": 0.2}, speed | {"mfu": 0.4}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = speeds(path)
    assert made["pairs_per_second"] == 3.0
    assert made["mfu"] == pytest.approx(0.3)
    assert made["flops_per_second"] is None
    assert made["train_seconds"] == 8.0
