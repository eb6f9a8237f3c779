"""Checkpoints by orbax: params, opt, data, config and metrics as separate items.

Every process saves and reads its own part. What a checkpoint says of itself, and which there
are, is read by process 0 and told to all.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, to_json
from rbs_jax.hosts.together import all_say, first_says, is_first, number, wait_for_all
from rbs_jax.model.kinds import Model
from rbs_jax.remote import bound_all_clients, is_remote
from rbs_jax.storage import move_folder, remove
from rbs_jax.train.checksum import checksum, compare
from rbs_jax.train.folder import CHECKPOINTS
from rbs_jax.train.saving import end_failed_saves_silently, saving
from rbs_jax.train.state import TrainState

NO_DAMAGE = (UserError, MemoryError, jax.errors.JaxRuntimeError)
"""What a read may raise that is no fault of the file; of that, libraries raise many kinds."""
ITEMS = ("params", "opt", "data", "config", "metrics")
BROKEN = "broken_checkpoints"
"""Where a run's folder keeps checkpoints that could not be read."""
SELECTED_BY = "same_document"
"""The metric whose highest value makes a checkpoint the best."""


class Notes(NamedTuple):
    """What a checkpoint says of itself."""

    data: dict[str, Any]
    """Position in the data, the corpus's fingerprint, and checksums of the arrays."""
    config: dict[str, Any]

    @property
    def checksums(self) -> dict[str, int]:
        """Of params and opt; those of earlier versions have none."""
        return self.data.get("checksums", {})


class Checkpoints:
    """The checkpoints of a run folder, saved in the background: the newest `keep` and the best."""

    def __init__(self, out: str | Path, keep: int) -> None:
        """`out` is the run's folder, a path or a URL."""
        end_failed_saves_silently()
        bound_all_clients(str(out))

        def measured(metrics: dict[str, float]) -> float:
            return metrics.get(SELECTED_BY, -math.inf)

        kept = [policies.LatestN(n=keep), policies.BestN(get_metric_fn=measured, n=1)]
        self._folder = epath.Path(out) / CHECKPOINTS  # as the user has named it
        self._place = self._folder if is_remote(str(out)) else self._folder.absolute()
        self._set_aside(first_says(self._garbled))
        self._manager = ocp.CheckpointManager(
            self._place,
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
        checksums = {"params": checksum(state.model), "opt": checksum(tuple(state[1:]))}
        with saving(self._folder):
            taken = self._manager.save(
                step,
                metrics=metrics,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.model),
                    opt=ocp.args.StandardSave(tuple(state[1:])),
                    data=ocp.args.JsonSave(data | {"checksums": checksums}),
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
        self.wait()
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Step of the checkpoint that did best on valid; None where none was measured."""
        self.wait()
        figures = {step: self.metrics(step) for step in self.steps()}
        measured = [(m[SELECTED_BY], step) for step, m in figures.items() if SELECTED_BY in m]
        return max(measured)[1] if measured else None

    def metrics(self, step: int) -> dict[str, float]:
        """The held-out figures of a checkpoint; empty where it was not measured."""
        return first_says(lambda: self._manager.metrics(step))

    def notes(self, step: int) -> Notes:
        """The data item and the config item of a checkpoint, as JSON.

        Raises:
          UserError: they cannot be read.
        """
        notes, why = first_says(lambda: self._notes_or_why(step))
        if notes is None:
            raise UserError(f"{self._folder / str(step)}: this checkpoint cannot be read ({why})")
        return Notes(*notes)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state after `step` steps, laid out as `like`; waits for a save under way."""
        self.wait()
        opt = self._arrays(step, "opt", tuple(like[1:]))
        return TrainState(self._arrays(step, "params", like.model), *opt)

    def restore_model(self, step: int, like: Model) -> Model:
        """The parameters alone, laid out as `like`; waits for a save under way.

        Raises:
          UserError: they cannot be read.
        """
        self.wait()
        steps, saved = self.steps(), self.notes(step).checksums
        try:
            model = self._arrays(step, "params", like)
            compare({"params": model}, saved)
        except NO_DAMAGE:
            raise
        except Exception as error:
            others = ", ".join(str(other) for other in steps if other != step) or "none"
            raise UserError(
                f"{self._folder / str(step)}: this checkpoint cannot be read "
                f"({_one_line(error)}); others are {others}, named as FOLDER@STEP"
            ) from error
        return model

    def newest_readable(
        self, like: TrainState, check: Callable[[int, Notes], None]
    ) -> tuple[int, TrainState] | None:
        """The newest checkpoint that every process can read, its step and state; None without any.

        Newer ones that cannot be read are named in a warning, and set aside in the run's folder.
        What a process meets alone, it tells before it does anything that all do together.

        Args:
          like: how the state is laid out (arrays or abstract ones).
          check: called with the step and notes of each that is tried; what it raises is raised.

        Raises:
          UserError: none of those there can be read; they stay as they are.
        """
        self.wait()
        broken, steps = dict[int, str](), self.steps()
        for step in reversed(steps):
            state = None
            notes, why = first_says(partial(self._notes_or_why, step))
            if notes is not None:
                check(step, Notes(*notes))
                state, why = self._state_or_why(step, like, Notes(*notes).checksums)
            if notes is not None and state is not None:
                self._set_aside([*broken.items()])
                if broken:
                    self._manager.reload()
                return step, state
            broken[step] = str(why)
        if not steps:
            return None
        raise UserError(
            f"{self._folder}: none of the checkpoints {', '.join(map(str, steps))} can be read: "
            f"{broken[steps[-1]]}; give another --out to start anew"
        )

    def _notes_or_why(self, step: int) -> tuple[Notes | None, str | None]:
        try:
            return Notes(self._json(step, "data"), self._json(step, "config")), None
        except NO_DAMAGE:
            raise
        except Exception as error:
            return None, _one_line(error)

    def _state_or_why(
        self, step: int, like: TrainState, saved: dict[str, int]
    ) -> tuple[TrainState | None, str | None]:
        """The state, or what stopped the first process that has not got it."""
        state, why = None, None
        try:
            state = self.restore(step, like)
        except NO_DAMAGE:
            raise
        except Exception as error:
            why = _one_line(error)
        problems = [said for said in all_say(why) if said is not None]
        if problems or state is None:
            return None, problems[0]
        try:  # by all together, and so with the same outcome
            compare({"params": state.model, "opt": tuple(state[1:])}, saved)
        except ValueError as error:
            return None, _one_line(error)
        return state, None

    def _garbled(self) -> list[tuple[int, str]]:
        """Checkpoints whose metrics, which the manager reads at once, are no JSON; and why."""
        found = []
        for path in self._place.glob("[0-9]*/metrics/metrics"):
            step = path.parent.parent.name
            try:
                json.loads(path.read_text())
            except ValueError as error:
                if step.isdigit():  # not a save that was cut short
                    found.append((int(step), _one_line(error)))
        return found

    def _set_aside(self, broken: Sequence[tuple[int, str]]) -> None:
        for step, why in broken:
            place = self._place.parent / BROKEN / str(step)
            if is_first():
                remove(str(place))
                move_folder(str(self._place / str(step)), str(place))
            print(
                f"rbs: {self._folder / str(step)}: this checkpoint cannot be read ({why}); it is "
                f"set aside in {self._folder.parent / BROKEN}, and the one before it used",
                file=sys.stderr,
            )
        if broken:
            wait_for_all()

    # Handlers, since what the manager restores through makes every process wait for all others:
    # one that meets a damaged file would leave them waiting.

    def _json(self, step: int, item: str) -> dict[str, Any]:
        return ocp.JsonCheckpointHandler().restore(self._place / str(step) / item)

    def _arrays(self, step: int, item: str, like: Any) -> Any:
        handler, place = ocp.StandardCheckpointHandler(), self._place / str(step) / item
        return handler.restore(place, args=ocp.args.StandardRestore(like))

    def steps(self) -> list[int]:
        """Of all whole checkpoints, oldest first; a kill can leave half of a deleted one."""
        return first_says(
            lambda: sorted(
                step
                for step in self._manager.all_steps()
                if all((self._folder / str(step) / item).is_dir() for item in ITEMS)
            )
        )

    def wait(self) -> None:
        """Until every save under way is whole."""
        with saving(self._folder):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Wait for saves under way, whatever ended the run.

        But after an error among several processes: a save waits for all of them, and they are
        to hear of the error first.
        """
        if error is not None and number() > 1:
            return
        with saving(self._folder):
            self._manager.close()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
