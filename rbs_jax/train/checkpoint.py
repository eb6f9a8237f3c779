"""Checkpoints by orbax: params, opt, data and config as separate items."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from rbs_jax.data.tokens import Tokens, load_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, from_json, to_json
from rbs_jax.model.reward import RewardModel
from rbs_jax.train.state import TrainState, abstract

ITEMS = ("params", "opt", "data", "config")


class Checkpoints:
    """The checkpoints of a run folder, saved in the background, the newest `keep` kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._manager = ocp.CheckpointManager(
            (folder / "checkpoints").absolute(),
            item_names=ITEMS,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def save(self, step: int, state: TrainState, data: dict[str, Any], config: Experiment) -> None:
        """Start to save the state after `step` updates; it is visible once it is whole."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.model),
                opt=ocp.args.StandardSave(state.opt_state),
                data=ocp.args.JsonSave(data),
                config=ocp.args.JsonSave(to_json(config)),
            ),
        )

    def newest(self) -> int | None:
        """Step of the newest whole checkpoint; None where there is none."""
        return max(self.steps(), default=None)

    def notes(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The data item and the config item of a checkpoint, as JSON."""
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(data=ocp.args.JsonRestore(), config=ocp.args.JsonRestore()),
        )
        return items["data"], items["config"]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state after `step` updates, laid out as `like` (arrays or abstract ones)."""
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(like.model),
                opt=ocp.args.StandardRestore(like.opt_state),
            ),
        )
        return TrainState(items["params"], items["opt"])

    def restore_model(self, step: int, like: RewardModel) -> RewardModel:
        """The parameters alone, laid out as `like`."""
        args = ocp.args.Composite(params=ocp.args.StandardRestore(like))
        return self._manager.restore(step, args=args)["params"]

    def steps(self) -> list[int]:
        """Steps of all whole checkpoints, oldest first; a kill can leave half of a deleted one."""
        return sorted(
            step
            for step in self._manager.all_steps()
            if all((self._manager.directory / str(step) / item).is_dir() for item in ITEMS)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for saves under way, whatever ended the run."""
        self._manager.close()


class LoadedModel(NamedTuple):
    """A trained model with all that is needed to score text with it."""

    model: RewardModel
    experiment: Experiment
    tokens: Tokens


def find_checkpoint(name: str) -> tuple[Path, int]:
    """The folder and step that a MODEL names: FOLDER for its newest checkpoint, or FOLDER@STEP.

    Raises:
      UserError: no run there, no checkpoint in it, or not that one.
    """
    folder_name, at, wanted = name.rpartition("@")
    folder = Path(folder_name if at and not Path(name).exists() else name)
    if not (folder / "checkpoints").is_dir():
        raise UserError(
            f"{folder}: no run here (no checkpoints folder); train one with `rbs train`"
        )
    with Checkpoints(folder, keep=1) as checkpoints:
        steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{folder}: the run has no whole checkpoint yet")
    if folder == Path(name):
        return folder, steps[-1]
    if wanted not in map(str, steps):
        raise UserError(f"{name}: no such checkpoint; steps here: {', '.join(map(str, steps))}")
    return folder, int(wanted)


def read_experiment(folder: Path, step: int) -> Experiment:
    """The experiment that a checkpoint belongs to."""
    with Checkpoints(folder, keep=1) as checkpoints:
        return from_json(checkpoints.notes(step)[1])


def load_model(folder: Path, step: int, experiment: Experiment, mesh: Mesh) -> LoadedModel:
    """The parameters of a checkpoint on the ambient mesh, with its experiment and tokenizer."""
    shapes = jax.eval_shape(lambda: RewardModel(jax.random.key(0), experiment.model))
    with Checkpoints(folder, keep=1) as checkpoints:
        model = checkpoints.restore_model(step, abstract(mesh, shapes))
    return LoadedModel(model, experiment, load_tokens(folder))
