"""The loop: step, log, measure, save."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.chips import peak_flops
from rbs_jax.data.stream import Stream
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.hosts.notice import Notice
from rbs_jax.hosts.together import first_says
from rbs_jax.objective import Metrics as StepMetrics
from rbs_jax.optim import learning_rate
from rbs_jax.train.checkpoint import SELECTED_BY, Checkpoints
from rbs_jax.train.curves import open_curves
from rbs_jax.train.feed import Feed
from rbs_jax.train.flops import step_flops
from rbs_jax.train.folder import RunFolder
from rbs_jax.train.heartbeat import Heartbeat
from rbs_jax.train.heldout import Heldout
from rbs_jax.train.metrics import Clock, Metrics, device_memory, read_metrics
from rbs_jax.train.state import TrainState
from rbs_jax.train.step import Step
from rbs_jax.train.watch import Watching

MEASURED = f"heldout_{SELECTED_BY}"
"""What metrics.jsonl calls the figure that checkpoints are selected by."""


class Run(NamedTuple):
    """What the steps need and do not change."""

    experiment: Experiment
    folder: RunFolder
    mesh: Mesh
    stream: Stream[Any]
    watched: Heldout | None
    """The held-out grids that checkpoints are measured on: valid's where there is one."""
    watching: Watching
    """Benchmarks to measure on the way, which choose nothing."""
    step: Step
    checkpoints: Checkpoints
    heartbeat: Heartbeat

    def steps(
        self, start: int, state: TrainState, fingerprints: dict[str, str | None]
    ) -> tuple[int, TrainState, bool]:
        """Steps start + 1 to the last, to an early stop, or to SIGTERM.

        Returns the steps done, the state, and whether it was SIGTERM. All processes do the same
        steps, and save and stop at the same ones: none decides it by its own clock.

        Metrics are read one step late, so devices never wait for the host; but on a CPU, which
        may run a step within the call for it, so that the time of the next would be this one's.
        """
        config, path = self.experiment.train, self.folder.local / "metrics.jsonl"
        records = [record for record in read_metrics(path) if record["step"] <= start]
        accuracies = [record[MEASURED] for record in records if MEASURED in record]
        if stops_early(accuracies, config.patience):
            print(f"step {start}: no new best in {config.patience} measurements, stopped before")
            return start, state, False
        grids = self.experiment.grid.grids_per_step
        feed = Feed(self.stream, self.mesh, grids, start, config.steps)
        flops = step_flops(self.experiment, self.stream.work)
        peak = peak_flops(device.device_kind for device in self.mesh.devices.flat)
        clock = Clock(self.stream.work, flops, peak, start)
        done, pending, late = start, None, self.mesh.devices.flat[0].platform != "cpu"
        saved, leaving = time.monotonic(), False
        curves = open_curves(self.experiment, self.folder, start)
        self.heartbeat.enter("training")
        with Metrics(path, records, start, config.steps, curves) as metrics, Notice() as notice:
            for done, batch in enumerate(feed, start=start + 1):
                if pending is not None and not late:
                    self._log(*pending, {}, metrics, clock, feed.waited)
                state, values = self.step(state, batch)
                if pending is not None and late:
                    self._log(*pending, {}, metrics, clock, feed.waited)
                pending = done, values
                measures = done == config.steps or done % (config.best_every or config.steps) == 0
                leaving = notice.reached(done) and done < config.steps
                saves = done % config.checkpoint_every == 0 or self._is_time(done, saved)
                watches = self.watching.is_due(done)
                if not (measures or leaving or saves or watches):
                    continue
                held = self._measure(done, state, clock) if measures else {}
                shown = self._watch(done, state, clock) if watches else {}
                if config.best_every is not None:
                    shown |= {f"heldout_{name}": value for name, value in held.items()}
                self._log(*pending, shown, metrics, clock, feed.waited)
                pending = None
                if not (measures or leaving or saves):
                    continue
                data = {"next_step": done, **fingerprints}
                with clock.saving(), self.heartbeat.during("saving"):
                    self.folder.sync()  # first: a checkpoint that is there has its metrics there
                    self.checkpoints.save(done, state, data, self.experiment, held)
                saved = time.monotonic()
                accuracies += [held[SELECTED_BY]] if SELECTED_BY in held else []
                if stops_early(accuracies, config.patience):
                    print(f"step {done}: no new best in {config.patience} measurements, stopping")
                    leaving = False
                    break
                if leaving:
                    break
        return done, state, leaving

    def _is_time(self, done: int, saved: float) -> bool:
        """Whether the minutes between checkpoints are over, by process 0's clock, for all."""
        minutes = self.experiment.train.checkpoint_minutes
        if minutes is None or done % self.experiment.train.log_every:
            return False
        return first_says(lambda: time.monotonic() - saved >= 60 * minutes)

    def _measure(self, done: int, state: TrainState, clock: Clock) -> dict[str, float]:
        """The watched figures of the state; the time they take is not the steps'."""
        if self.watched is None:
            return {}
        jax.block_until_ready(state)  # the step under way is still the clock's
        self.heartbeat.step(done)
        with clock.left_out(), self.heartbeat.during("measuring"):
            held = self.watched.summary(state.model, self.mesh)
        if self.experiment.data.valid is None:
            held.pop(SELECTED_BY, None)  # no checkpoint is ever the best by its test figures
        return held

    def _watch(self, done: int, state: TrainState, clock: Clock) -> dict[str, float]:
        """The benchmarks' figures of the state; the time they take is not the steps'."""
        jax.block_until_ready(state)  # the step under way is still the clock's
        self.heartbeat.step(done)
        with clock.left_out(), self.heartbeat.during("measuring"):
            return self.watching.curves(state.model)

    def _log(
        self,
        done: int,
        values: StepMetrics,
        shown: dict[str, float],
        metrics: Metrics,
        clock: Clock,
        waited: float,
    ) -> None:
        """Tell that a step is done, and write its record where one is due.

        Raises:
          UserError: too many updates in a row were skipped.
        """
        record: dict[str, Any] = {name: np.asarray(value).item() for name, value in values.items()}
        with clock.saving():
            self.heartbeat.step(done)
        in_a_row, config = record.pop("skipped_in_a_row"), self.experiment.train
        if in_a_row >= config.max_skipped:
            raise UserError(
                f"step {done}: {in_a_row} updates in a row had no finite loss or gradient "
                f"(loss {record['loss']}, gradient norm {record['grad_norm']}); start again with "
                "another --out and a lower --optim.learning-rate or longer --optim.warmup-steps; "
                f"the newest checkpoint is {self.checkpoints.newest()}"
            )
        if done % config.log_every and done != config.steps and not shown:
            return
        updates = self.experiment.updates_per_step
        rate = learning_rate(self.experiment.optim, config.steps, updates)
        place = {"step": done, "epoch": (done - 1) / self.stream.steps_per_epoch}
        made = max((done - 1) * updates - record["skipped_updates"], 0)
        record |= {"learning_rate": float(rate(made)), **shown}
        metrics.write(place | record | clock.lap(done, waited) | device_memory())


def stops_early(accuracies: list[float], patience: int | None) -> bool:
    """Whether the last `patience` measurements brought no new best."""
    if patience is None or not accuracies:
        return False
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= patience
