"""Where a run's numbers are drawn: TensorBoard's files, and Weights & Biases where it is asked for.

Process 0 alone writes them, beside metrics.jsonl, which stays what a resumed run goes by.
"""

import time
import uuid
from pathlib import Path
from typing import Any

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, to_json
from rbs_jax.files import make_folder, write_atomic, writing
from rbs_jax.hosts.together import is_first
from rbs_jax.train.folder import TENSORBOARD, WANDB_ID, RunFolder
from rbs_jax.train.metrics import TIME_FIELDS, Curves


def open_curves(experiment: Experiment, folder: RunFolder, start: int) -> list[Curves]:
    """What draws the records of the steps after `start`; nothing but in process 0.

    Raises:
      UserError: Weights & Biases refuses the run.
    """
    if not is_first():
        return []
    curves: list[Curves] = [TensorBoard(folder.local / TENSORBOARD, start)]
    if experiment.train.wandb is not None:
        curves.append(WeightsAndBiases(experiment, experiment.train.wandb, folder))
    return curves


def drawn(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a record by the curve's name: the part before the slash is a group's."""
    return {
        _group(name): value
        for name, value in record.items()
        if isinstance(value, int | float) and name != "step"
    }


def _group(name: str) -> str:
    if name in TIME_FIELDS:
        return f"speed/{name}"
    grouped = name.startswith(("heldout_", "suite_"))
    return name.replace("_", "/", 1) if grouped else f"train/{name}"


class TensorBoard:
    """A file of scalars for each start of the run, made with its first record.

    It begins with a mark that hides the steps after `start` of earlier files: what was done
    again after a kill is drawn once. What a kill cuts off ends a file, and nothing else.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self._folder, self._start = folder, start
        self._file: Any = None

    def write(self, record: dict[str, Any]) -> None:
        """Draw a record.

        Raises:
          UserError: the file system refuses it.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in drawn(record).items()
        ]
        with writing(self._folder):
            if self._file is None:
                self._file = self._open()
                began = SessionLog(status=SessionLog.START)
                self._file.write_event(
                    Event(wall_time=time.time(), step=self._start + 1, session_log=began)
                )
            self._file.write_event(
                Event(wall_time=time.time(), step=record["step"], summary=Summary(value=values))
            )
            self._file.flush()

    def _open(self) -> Any:
        # Not the library's SummaryWriter: its thread writes later, and alone knows what fails.
        from tensorboardX.event_file_writer import EventsWriter

        make_folder(self._folder)
        # Its name has the second; another start within it is told apart by the step.
        return EventsWriter(str(self._folder / "events"), f".{self._start:09d}")

    def close(self, failed: bool) -> None:
        """End the file; `failed` says whether an exception ended the run."""
        if self._file is None:
            return
        try:
            with writing(self._folder):
                self._file.close()
        except UserError:
            if not failed:  # else it is what was refused before
                raise


class WeightsAndBiases:
    """A run of Weights & Biases: one for all starts, by the id that the run's folder keeps."""

    def __init__(self, experiment: Experiment, project: str, folder: RunFolder) -> None:
        """Open the run, or go on with it.

        Raises:
          UserError: the package is not installed, or refuses the run.
        """
        wandb = installed_wandb(project)
        kept = folder.local / WANDB_ID
        if not kept.is_file():
            write_atomic(kept, uuid.uuid4().hex)
        try:
            self._run = wandb.init(
                project=project,
                name=folder.name.rpartition("/")[2],
                id=kept.read_text(encoding="utf-8").strip(),
                resume="allow",
                allow_val_change=True,  # what a resumed run may set anew
                config=to_json(experiment),
            )
        except wandb.Error as error:
            why = " ".join(str(error).split())
            raise UserError(f"train.wandb {project}: {why}") from error

    def write(self, record: dict[str, Any]) -> None:
        """Draw a record; steps done again after a kill are there already, and equal."""
        if record["step"] >= self._run.starting_step:
            self._run.log(drawn(record), step=record["step"], commit=True)

    def close(self, failed: bool) -> None:
        """Send what is left; `failed` says whether an exception ended the run."""
        self._run.finish(exit_code=int(failed))


def installed_wandb(project: str) -> Any:
    """The package, which is looked for only where a run asks for it.

    Raises:
      UserError: it is not installed.
    """
    try:
        import wandb

        assert wandb.init  # a folder of its runs, in the working directory, has none
    except (ImportError, AttributeError) as error:
        raise UserError(f"train.wandb {project}: {error}; give `pip install wandb`") from error
    return wandb
