import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import pytest

from rbs_jax.chips import CHIPS, Chip
from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.reader import Corpus
from rbs_jax.data.stream import GridStream
from rbs_jax.data.tokens import load_tokens
from rbs_jax.errors import Preempted, UserError
from rbs_jax.experiment import DataConfig, TrainConfig, from_json, to_json
from rbs_jax.files import locked
from rbs_jax.hosts.notice import Notice
from rbs_jax.optim import OptimConfig
from rbs_jax.sharding import MeshConfig
from rbs_jax.train import fit as fitting
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.flops import step_flops
from rbs_jax.train.heldout import Heldout
from rbs_jax.train.loop import train
from rbs_jax.train.metrics import TIME_FIELDS, read_metrics
from rbs_jax.train.tile import TileConfig
from tests.tiny import made_up_documents


def timeless(path):
    return [
        {name: value for name, value in record.items() if name not in TIME_FIELDS}
        for record in read_metrics(path / "metrics.jsonl")
    ]


def with_steps(experiment, steps, **optim):
    return dataclasses.replace(
        experiment,
        train=dataclasses.replace(experiment.train, steps=steps),
        optim=dataclasses.replace(experiment.optim, **optim),
    )


@pytest.fixture(scope="module")
def unbroken(experiment, tmp_path_factory):
    """Trained once for many tests, none of which may change it."""
    out = tmp_path_factory.mktemp("run") / "unbroken"
    return out, train(experiment, out)


def test_a_run_leaves_its_result_metrics_and_model(unbroken, experiment):
    out, result = unbroken
    assert json.loads((out / "result.json").read_text()) == result
    assert [r["step"] for r in read_metrics(out / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert load_tokens(out).vocab_size <= 300
    assert result["candidates"] == 4
    assert result["valid"] is None
    assert set(result["controls"]) == {"word_overlap", "longer_suffix", "end_position"}
    assert result["test"]["in_batch"]["n"] > 0
    assert result["test"] != result["untrained"]
    assert result["checkpoint"] == f"{out}@6"


def test_going_on_after_fewer_steps_equals_an_unbroken_run(unbroken, experiment, tmp_path):
    out, result = unbroken
    train(with_steps(experiment, 3), tmp_path / "broken")
    again = train(experiment, tmp_path / "broken")
    assert timeless(tmp_path / "broken") == timeless(out)
    assert again["test"] == result["test"]
    assert again["untrained"] == result["untrained"]


def test_a_finished_run_started_again_changes_nothing(unbroken, experiment):
    out, result = unbroken
    before = (out / "metrics.jsonl").read_text()
    assert train(experiment, out) == result
    assert (out / "metrics.jsonl").read_text() == before


def test_another_mesh_may_take_over(unbroken, experiment, tmp_path):
    out, _ = unbroken
    train(with_steps(experiment, 3), tmp_path / "moved")
    mesh = dataclasses.replace(experiment.mesh, data=2, fsdp=2, tensor=2)
    train(dataclasses.replace(experiment, mesh=mesh), tmp_path / "moved")
    for ours, theirs in zip(timeless(tmp_path / "moved"), timeless(out), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def recorded_tile(out, step):
    with Checkpoints(out, keep=1) as checkpoints:
        return from_json(checkpoints.notes(step)[1]).tile


def test_the_tile_that_fits_is_recorded_and_kept_by_a_run_that_goes_on(
    experiment, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    monkeypatch.setattr(fitting, "tiles", lambda *_: iter([TileConfig(2, 4)]))
    train(with_steps(experiment, 2), out)
    assert recorded_tile(out, 2) == TileConfig(2, 4)
    assert "tile: 2 prefixes with 4 suffixes at a time" in capsys.readouterr().out
    monkeypatch.setattr(fitting, "tiles", lambda *_: pytest.fail("a new tile was looked for"))
    train(with_steps(experiment, 4), out)
    assert recorded_tile(out, 4) == TileConfig(2, 4)
    given = dataclasses.replace(experiment, tile=TileConfig(4, 1))
    train(given, out)
    assert recorded_tile(out, 6) == TileConfig(4, 1)


def test_changed_settings_are_refused_by_name(unbroken, experiment):
    out, _ = unbroken
    changed = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, rope_theta=5.0)
    )
    with pytest.raises(UserError, match=r"model\.rope_theta: 10000.0 -> 5.0"):
        train(changed, out)


def test_another_corpus_is_refused(unbroken, experiment, tmp_path, corpora):
    out, _ = unbroken
    other = tmp_path / "other"
    write_corpus(made_up_documents(90, seed=1), other, load_tokens(corpora / "train"), 16, {})
    changed = dataclasses.replace(experiment, data=DataConfig(train=(str(other),)))
    with pytest.raises(UserError, match="another corpus"):
        train(changed, out)


def test_more_steps_of_a_cosine_run_are_refused_since_its_rates_would_differ(experiment, tmp_path):
    cosine = with_steps(experiment, 2, schedule="cosine")
    train(cosine, tmp_path / "run")
    with pytest.raises(UserError, match=r"train\.steps: 2 -> 4"):
        train(with_steps(cosine, 4), tmp_path / "run")


def test_updates_that_are_not_finite_are_reported_and_too_many_in_a_row_end_the_run(
    experiment, tmp_path
):
    bad = dataclasses.replace(
        with_steps(experiment, 9),
        optim=OptimConfig(learning_rate=1e30, warmup_steps=1),
        train=dataclasses.replace(experiment.train, steps=9, checkpoint_every=9, max_skipped=3),
    )
    with pytest.raises(UserError, match=r"step \d: 3 updates in a row .*--optim.learning-rate"):
        train(bad, tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    skipped = [record for record in records if record["skipped_updates"]]
    assert [record["skipped_updates"] for record in skipped] == [1, 2]
    assert all(record["grad_norm"] is None for record in skipped)
    assert all(record["grad_norm"] is not None for record in records[: -len(skipped)])


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(experiment, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds thesis\.txt and no run; give another --out"):
        train(experiment, tmp_path)
    with pytest.raises(UserError, match="is a file; give a folder"):
        train(experiment, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def selecting(experiment, corpora, **train_config):
    """The run with a valid corpus, measured after every step unless told."""
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, valid=str(corpora / "valid")),
        train=dataclasses.replace(
            experiment.train, **{"best_every": 1, "checkpoint_every": 9} | train_config
        ),
    )


def with_accuracies(monkeypatch, accuracies):
    """Made-up accuracies on valid, one a measurement."""
    left = iter(accuracies)
    monkeypatch.setattr(
        Heldout, "summary", lambda *_: {"same_document": next(left), "reward_mean": 1.0}
    )


def test_the_best_on_valid_is_kept_reported_and_scored(experiment, corpora, tmp_path, monkeypatch):
    with_accuracies(monkeypatch, [0.5, 0.9, 0.6, 0.6, 0.6, 0.6])
    result = train(selecting(experiment, corpora), tmp_path / "run")
    assert result["checkpoint"] == f"{tmp_path / 'run'}@2"
    assert result["steps"] == 6
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [r["heldout_same_document"] for r in records] == [0.5, 0.9, 0.6, 0.6, 0.6, 0.6]
    with_accuracies(monkeypatch, [0.5])
    two = train(with_steps(experiment, 2), tmp_path / "two")
    assert result["test"] == two["test"]


def test_an_early_stop_waits_for_a_new_best_and_holds_when_started_again(
    experiment, corpora, tmp_path, monkeypatch, capsys
):
    patient = selecting(experiment, corpora, patience=2)
    with_accuracies(monkeypatch, [0.5, 0.4, 0.9, 0.6, 0.7])
    result = train(patient, tmp_path / "run")
    assert (result["steps"], result["checkpoint"]) == (5, f"{tmp_path / 'run'}@3")
    assert "no new best in 2 measurements" in capsys.readouterr().out
    assert train(patient, tmp_path / "run") == result


def test_the_last_checkpoint_has_mean_and_deviation_of_heldout_rewards(
    unbroken, experiment, corpora, tmp_path
):
    with Checkpoints(unbroken[0], keep=2) as checkpoints:
        on_test = checkpoints.metrics(6)
        assert checkpoints.metrics(4) == {}
        assert checkpoints.best() is None, "test must not say which checkpoint is the best"
    assert set(on_test) == {"reward_mean", "reward_std"}
    assert on_test["reward_std"] > 0
    valid = dataclasses.replace(experiment.data, valid=str(corpora / "valid"))
    train(dataclasses.replace(with_steps(experiment, 2), data=valid), tmp_path / "valid")
    with Checkpoints(tmp_path / "valid", keep=2) as checkpoints:
        assert set(checkpoints.metrics(2)) == {"same_document", "reward_mean", "reward_std"}
        assert checkpoints.best() == 2


def test_choosing_the_best_needs_a_valid_corpus_with_documents_of_several_blocks(
    experiment, tmp_path, corpora, monkeypatch
):
    with pytest.raises(UserError, match=r"best_every measures on data\.valid, which is not set"):
        dataclasses.replace(experiment, train=TrainConfig(best_every=1))
    monkeypatch.setattr(Heldout, "has_same_document_pairs", lambda _: False)
    with pytest.raises(UserError, match=r"data\.valid .* needs documents of several blocks"):
        train(selecting(experiment, corpora), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_corpus_that_chose_the_best_may_not_change(experiment, corpora, tmp_path):
    short = with_steps(selecting(experiment, corpora), 2)
    train(short, tmp_path / "run")
    other = tmp_path / "other"
    write_corpus(made_up_documents(60, seed=7), other, load_tokens(corpora / "train"), 16, {})
    longer = with_steps(selecting(experiment, corpora), 4)
    longer = dataclasses.replace(longer, data=dataclasses.replace(longer.data, valid=str(other)))
    with pytest.raises(UserError, match=r"another corpus, .* \(data\.valid was"):
        train(longer, tmp_path / "run")


def test_a_corpus_is_not_given_twice(experiment, corpora, tmp_path):
    for data in (
        DataConfig(train=experiment.data.train, test=experiment.data.train[0]),
        dataclasses.replace(experiment.data, valid=experiment.data.test),
    ):
        with pytest.raises(UserError, match="are one corpus"):
            train(dataclasses.replace(experiment, data=data), tmp_path / "run")


def test_what_only_looks_like_a_run_is_left_alone(experiment, tmp_path):
    (tmp_path / "checkpoints" / "epoch_3").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(UserError, match="holds epoch_3 and no run"):
        train(experiment, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine"


def test_what_a_kill_before_the_first_checkpoint_leaves_is_taken_up(experiment, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("metrics.jsonl", "untrained.json", "untrained.json.partial"):
        (tmp_path / name).write_text("")
    assert train(with_steps(experiment, 1), tmp_path)["steps"] == 1


def test_a_step_behind_an_incomplete_checkpoint_is_not_lost_silently(experiment, tmp_path):
    train(with_steps(experiment, 2), tmp_path / "run")
    stray = tmp_path / "run" / "checkpoints" / "99"
    stray.mkdir()
    with pytest.raises(UserError, match=r"behind the incomplete checkpoint 99; remove .*99"):
        train(experiment, tmp_path / "run")
    stray.rmdir()
    assert train(experiment, tmp_path / "run")["steps"] == 6


def test_metrics_hold_what_they_promise(unbroken):
    record = read_metrics(unbroken[0] / "metrics.jsonl")[0]
    assert set(TIME_FIELDS) < set(record)
    assert {"loss", "bradley_terry", "centering", "pair_accuracy", "top1"} < set(record)
    assert {"reward_positive", "reward_negative", "reward_spread", "grad_norm"} < set(record)
    assert record["loss"] == pytest.approx(record["bradley_terry"] + record["centering"])
    assert 0 <= record["data_wait_share"] <= 1
    assert record["device_memory_gigabytes"] is None, "a CPU does not tell"


def test_the_shares_of_a_records_seconds_are_whole(experiment, tmp_path, monkeypatch):
    """Records are of every step, checkpoints of every second: each slow save is in the next."""
    own = Checkpoints.save

    def slow(*given):
        time.sleep(0.5)
        own(*given)

    monkeypatch.setattr(Checkpoints, "save", slow)
    result = train(experiment, tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for r in records:
        shares = (r["data_wait_share"], r["checkpoint_share"], r["compute_share"])
        assert sum(shares) == pytest.approx(1)
        assert all(0 <= share <= 1 for share in shares)
    behind = [r["checkpoint_share"] * r["seconds"] >= 0.5 for r in records]
    assert behind == [False, False, True, False, True, False]
    assert {"checkpoint_share", "compute_share"} < set(result)


def test_every_record_tells_the_useful_operations_of_a_second(unbroken, experiment):
    out, result = unbroken
    work = GridStream([Corpus(experiment.data.train[0])], experiment.split, experiment.grid, 0)
    of_a_step = step_flops(experiment, work.work)
    for record in read_metrics(out / "metrics.jsonl"):  # one a step
        assert record["flops_per_second"] * record["seconds"] == pytest.approx(of_a_step)
        assert record["mfu"] is None
    assert result["flops_per_second"] > 0
    assert result["mfu"] is None


def test_on_a_known_chip_they_are_compared_with_the_peak_of_all_devices(
    experiment, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(CHIPS, "cpu", Chip(flops=1e9, memory=1.0, bandwidth=1.0))
    two = dataclasses.replace(with_steps(experiment, 2), mesh=MeshConfig(data=2))
    result = train(two, tmp_path / "run")
    for record in read_metrics(tmp_path / "run" / "metrics.jsonl"):
        assert record["mfu"] == pytest.approx(record["flops_per_second"] / 2e9)
    assert result["mfu"] > 0
    assert re.search(r"step 2/2 .* pairs/s mfu \d+\.\d%", capsys.readouterr().out)


def test_a_record_has_the_time_of_its_own_steps(experiment, tmp_path, monkeypatch):
    """A CPU may run a step within the call for it; a checkpoint follows every second step."""
    own = fitting.fit

    def slow(*given):
        fitted = own(*given)

        def step(*state_and_batch):
            time.sleep(0.1)
            return jax.block_until_ready(fitted.step(*state_and_batch))

        return fitted._replace(step=step)

    monkeypatch.setattr("rbs_jax.train.loop.fit", slow)
    often = dataclasses.replace(experiment.train, checkpoint_every=2, log_every=1)
    train(dataclasses.replace(experiment, train=often), tmp_path / "run")
    assert min(r["seconds"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl")) >= 0.1


def run_cli(experiment, folder, out):
    config = folder / "config.py"
    config.write_text(
        "from rbs_jax.experiment import from_json\n"
        f"experiment = from_json({to_json(experiment)!r})\n"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "rbs_jax", "train", str(config), "--out", str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_a_killed_run_started_again_has_the_metrics_of_an_unbroken_one(experiment, tmp_path):
    """In tiles, of a prefix with half of a grid's suffixes."""
    longer = with_steps(experiment, 60)
    longer = dataclasses.replace(
        longer,
        train=dataclasses.replace(longer.train, checkpoint_every=7),
        tile=TileConfig(1, 2),
    )
    killed, metrics = tmp_path / "killed", tmp_path / "killed" / "metrics.jsonl"
    process = run_cli(longer, tmp_path, killed)
    give_up = time.monotonic() + 120
    while len(read_metrics(metrics)) < 10 and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(read_metrics(metrics)) < 60
    assert run_cli(longer, tmp_path, killed).wait() == 0
    assert run_cli(longer, tmp_path, tmp_path / "unbroken").wait() == 0
    assert timeless(killed) == timeless(tmp_path / "unbroken")
    results = [
        json.loads((tmp_path / n / "result.json").read_text()) for n in ("killed", "unbroken")
    ]
    assert results[0]["test"] == results[1]["test"]
    assert jax.device_count() == 8  # the processes had one device each, this one is untouched


def test_another_test_corpus_gets_untrained_figures_of_its_own(experiment, tmp_path, corpora):
    train(with_steps(experiment, 3), tmp_path / "run")
    other = dataclasses.replace(experiment.data, test=str(corpora / "valid"))
    moved = train(dataclasses.replace(experiment, data=other), tmp_path / "run")
    fresh = train(dataclasses.replace(experiment, data=other), tmp_path / "fresh")
    assert moved["untrained"] == fresh["untrained"]


def test_going_back_to_fewer_steps_is_refused(unbroken, experiment):
    with pytest.raises(UserError, match=r"6 steps already, train\.steps is 4"):
        train(with_steps(experiment, 4), unbroken[0])


def test_two_runs_at_once_in_one_folder_are_refused(experiment, tmp_path):
    with (
        locked(tmp_path, "nobody else"),
        pytest.raises(UserError, match=f"{tmp_path}: another rbs train is at work there"),
    ):
        train(experiment, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert train(with_steps(experiment, 1), tmp_path)["steps"] == 1


def test_sigterm_saves_where_the_run_stands_and_the_same_call_goes_on(
    unbroken, experiment, tmp_path, monkeypatch
):
    often = dataclasses.replace(
        experiment, train=dataclasses.replace(experiment.train, checkpoint_every=100)
    )
    reached = Notice.reached

    def and_ask(self, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return reached(self, step)

    monkeypatch.setattr(Notice, "reached", and_ask)
    with pytest.raises(Preempted, match=rf"saved step 3 in {tmp_path / 'run'}"):
        train(often, tmp_path / "run")
    monkeypatch.undo()
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        assert checkpoints.steps() == [3]
    train(often, tmp_path / "run")
    assert timeless(tmp_path / "run") == timeless(unbroken[0])


def test_checkpoints_come_by_minutes_too(experiment, tmp_path):
    minutes = dataclasses.replace(
        experiment.train, checkpoint_every=100, checkpoint_minutes=1e-9, log_every=2, keep=9
    )
    train(dataclasses.replace(experiment, train=minutes), tmp_path / "run")
    with Checkpoints(tmp_path / "run", keep=9) as checkpoints:
        assert checkpoints.steps() == [2, 4, 6]
    with pytest.raises(UserError, match=r"checkpoint_minutes is 0.0, it must be above 0"):
        TrainConfig(checkpoint_minutes=0.0)
