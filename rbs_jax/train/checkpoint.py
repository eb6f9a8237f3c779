"""Checkpoints by orbax: params, opt, data, config and metrics as separate items."""

import math
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, to_json
from rbs_jax.model.kinds import Model
from rbs_jax.train.saving import end_failed_saves_silently, saving
from rbs_jax.train.state import TrainState

ITEMS = ("params", "opt", "data", "config", "metrics")
SELECTED_BY = "same_document"
"""The metric whose highest value makes a checkpoint the best."""


class Checkpoints:
    """The checkpoints of a run folder, saved in the background: the newest `keep` and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        end_failed_saves_silently()

        def measured(metrics: dict[str, float]) -> float:
            return metrics.get(SELECTED_BY, -math.inf)

        kept = [policies.LatestN(n=keep), policies.BestN(get_metric_fn=measured, n=1)]
        self._folder = folder / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self._folder.absolute(),
            item_names=ITEMS[:-1],  # the manager keeps the metrics itself
            options=ocp.CheckpointManagerOptions(
                best_fn=measured, preservation_policy=policies.AnyPreservationPolicy(kept)
            ),
        )

    def save(
        self,
        step: int,
        state: TrainState,
        data: dict[str, Any],
        config: Experiment,
        metrics: dict[str, float],
    ) -> None:
        """Start to save the state after `step` steps; it is visible once it is whole.

        Raises:
          UserError: the file system refuses it, or something stands in its place.

        Args:
          step: steps done.
          state: the state after them.
          data: position in the data, and the corpus's fingerprint.
          config: the whole experiment.
          metrics: held-out figures of the state, empty where it was not measured.
        """
        with saving(self._folder):
            taken = self._manager.save(
                step,
                metrics=metrics,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.model),
                    opt=ocp.args.StandardSave(tuple(state[1:])),
                    data=ocp.args.JsonSave(data),
                    config=ocp.args.JsonSave(to_json(config)),
                ),
            )
        if not taken:
            later = max(self._manager.all_steps())
            raise UserError(
                f"{self._folder}: step {step} cannot be saved behind the incomplete checkpoint "
                f"{later}; remove {self._folder / str(later)} and give the same command again"
            )

    def newest(self) -> int | None:
        """Step of the newest whole checkpoint, one under way too; None where there is none."""
        self._wait()
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Step of the checkpoint that did best on valid; None where none was measured."""
        self._wait()
        figures = {step: self.metrics(step) for step in self.steps()}
        measured = [(m[SELECTED_BY], step) for step, m in figures.items() if SELECTED_BY in m]
        return max(measured)[1] if measured else None

    def metrics(self, step: int) -> dict[str, float]:
        """The held-out figures of a checkpoint; empty where it was not measured."""
        return self._manager.metrics(step)

    def notes(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The data item and the config item of a checkpoint, as JSON."""
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(data=ocp.args.JsonRestore(), config=ocp.args.JsonRestore()),
        )
        return items["data"], items["config"]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state after `step` steps, laid out as `like` (arrays or abstract ones)."""
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(like.model),
                opt=ocp.args.StandardRestore(tuple(like[1:])),
            ),
        )
        return TrainState(items["params"], *items["opt"])

    def restore_model(self, step: int, like: Model) -> Model:
        """The parameters alone, laid out as `like`; waits for a save under way."""
        self._wait()
        args = ocp.args.Composite(params=ocp.args.StandardRestore(like))
        return self._manager.restore(step, args=args)["params"]

    def steps(self) -> list[int]:
        """Steps of all whole checkpoints, oldest first; a kill can leave half of a deleted one."""
        return sorted(
            step
            for step in self._manager.all_steps()
            if all((self._folder / str(step) / item).is_dir() for item in ITEMS)
        )

    def _wait(self) -> None:
        with saving(self._folder):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for saves under way, whatever ended the run."""
        with saving(self._folder):
            self._manager.close()
