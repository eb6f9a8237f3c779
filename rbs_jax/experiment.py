"""A run as one typed value: the sum of the small configs, from a python file, to and from JSON."""

import dataclasses
import difflib
import runpy
import traceback
import typing
from pathlib import Path
from typing import Any

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.model.config import TransformerConfig
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.heldout import HeldoutConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Prepared corpora, by folder."""

    train: str = ""
    """Corpus to train on."""
    valid: str | None = None
    """Corpus to choose settings by; None for none."""
    test: str | None = None
    """Corpus to report on; None for none."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, and what to write when."""

    steps: int = 300
    """Steps in all; each is an optimizer update, or several (optim.prefixes_per_update)."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 2
    """Newest checkpoints kept, beside the best."""
    best_every: int | None = None
    """Steps between measurements of same-document accuracy on data.valid (the last step is
    measured too): the best of these checkpoints is kept, reported and named FOLDER@best; None
    to report the last step.
    """
    patience: int | None = None
    """Measurements in a row without a new best that end the run; None to never end it early."""
    max_skipped: int = 10
    """Updates in a row that may be skipped since their loss or gradient is not finite, before
    the run ends.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise UserError(f"train.{field.name} is {value}, it must be at least 1")
        if self.patience is not None and self.best_every is None:
            raise UserError("train.patience counts measurements: set train.best_every too")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    grid: GridConfig = GridConfig()
    model: TransformerConfig = TransformerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    heldout: HeldoutConfig = HeldoutConfig()
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    """Seed of the weights, the order of blocks and the held-out grids."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise UserError(f"seed is {self.seed}, it must be at least 0 and below 2**31")
        for breakpoint_ in (self.split.breakpoint, self.heldout.breakpoint):
            wanted = dataclasses.replace(self.split, breakpoint=breakpoint_).tokens_used
            if wanted > self.model.max_positions:
                raise UserError(
                    f"prefix + suffix = {wanted} tokens exceed model.max_positions "
                    f"{self.model.max_positions}"
                )
        if self.train.best_every is not None and self.data.valid is None:
            raise UserError("train.best_every measures on data.valid, which is not set")
        per_update = self.prefixes_per_update
        if self.grid.prefixes % per_update:
            nearest = " or ".join(map(str, _nearest_divisors(self.grid.prefixes, per_update)))
            raise UserError(
                f"optim.prefixes_per_update {per_update} does not divide grid.prefixes "
                f"{self.grid.prefixes}; the nearest is {nearest}"
            )
        for axis, size, name, field in (
            ("data", self.mesh.data, "grid.grids_per_step", self.grid.grids_per_step),
            ("fsdp", self.mesh.fsdp, "grid.prefixes", self.grid.prefixes),
            ("fsdp", self.mesh.fsdp, "optim.prefixes_per_update", per_update),
            ("fsdp", self.mesh.fsdp, "heldout.candidates", self.heldout.candidates),
            ("fsdp", self.mesh.fsdp, "model.width", self.model.width),
            ("tensor", self.mesh.tensor, "model.num_kv_heads", self.model.num_kv_heads),
            ("tensor", self.mesh.tensor, "model.mlp_width", self.model.mlp_width),
        ):
            if field % size:
                below, above = field // size * size, -(-field // size) * size
                nearest = f"{below} or {above}" if below else f"{above}"
                raise UserError(
                    f"mesh.{axis} {size} does not divide {name} {field}; the nearest is {nearest}"
                )

    @property
    def prefixes_per_update(self) -> int:
        """Prefixes of a grid that make one optimizer update."""
        return self.optim.prefixes_per_update or self.grid.prefixes

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates of a step, one after another."""
        return self.grid.prefixes // self.prefixes_per_update


def _nearest_divisors(number: int, wanted: int) -> list[int]:
    """The divisors of a number just below and above a wanted one that is none."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return [max(d for d in divisors if d < wanted), *[d for d in divisors if d > wanted][:1]]


def load_experiment(path: Path) -> Experiment:
    """The value called `experiment` in a python file.

    Raises:
      UserError: no such file, the file fails, or it defines no Experiment.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such config file")
    try:
        value = runpy.run_path(str(path)).get("experiment")
    except (Exception, SystemExit) as error:  # whatever the user's file raises is theirs to mend
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None)  # a SyntaxError's own
        where = f"{path}:{line}" if line else f"{path}"
        message = " ".join(str(error).split())
        raise UserError(f"{where}: {type(error).__name__}: {message}") from error
    if not isinstance(value, Experiment):
        raise UserError(f"{path}: defines no `experiment = Experiment(...)`")
    return value


def to_json(experiment: Experiment) -> dict[str, Any]:
    """Plain dicts, strings and numbers; `from_json` reads them back to an equal value."""
    return dataclasses.asdict(experiment)


def from_json(fields: dict[str, Any]) -> Experiment:
    """The experiment that `to_json` wrote.

    Raises:
      UserError: a field is unknown here, as when a newer version wrote it.
    """
    return _build(Experiment, fields, "")


def _build(cls: type, fields: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(cls)
    built = {}
    for name, value in fields.items():
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=1)
            hint = f"; perhaps {path}{close[0]}" if close else ""
            raise UserError(f"config field {path}{name} is unknown to this version{hint}")
        kinds = [hints[name], *typing.get_args(hints[name])]
        nested = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if nested is not None and isinstance(value, dict):
            built[name] = _build(typing.cast(type, nested), value, f"{path}{name}.")
        else:
            built[name] = value
    return cls(**built)


def differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Each leaf in which two JSON forms differ, as `model.width: 128 -> 256`."""
    found = []
    for name in old | new:
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{path}{name}.")
        elif before != after:
            found.append(f"{path}{name}: {before} -> {after}")
    return found
