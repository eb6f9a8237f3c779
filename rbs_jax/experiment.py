"""A run as one typed value: the sum of the small configs, from a python file, to and from JSON."""

import dataclasses
import difflib
import json
import math
import typing
from pathlib import Path
from typing import Any

from rbs_jax.config_file import load_value
from rbs_jax.data.cache import CACHE_GIGABYTES
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.template import TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import Model
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.heldout import HeldoutConfig
from rbs_jax.train.tile import TileConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Prepared corpora, by folder or URL (s3://bucket/corpus, gs://bucket/corpus)."""

    train: tuple[str, ...] = ()
    """Corpora to train on: one, or several mixed, each grid from one of them."""
    weights: tuple[float, ...] = ()
    """Each train corpus's share of grids, of any sum; none for its share of blocks."""
    valid: str | None = None
    """Corpus to choose settings by; None for none."""
    test: str | None = None
    """Corpus to report on; None for none."""
    cache_gigabytes: float = CACHE_GIGABYTES
    """Of local copies of remote shards, in $RBS_CACHE or ~/.cache/rbs_jax [GB]."""

    def __post_init__(self) -> None:
        if isinstance(self.train, str):
            raise UserError(f'data.train is a tuple of corpora: give ("{self.train}",)')
        if self.weights and len(self.weights) != len(self.train):
            raise UserError(
                f"data.weights are {len(self.weights)} for the {len(self.train)} corpora of "
                "data.train; give one each, or none"
            )
        if not all(0 < weight < math.inf for weight in self.weights):
            given = " ".join(map(str, self.weights))
            raise UserError(f"data.weights are {given}, each must be above 0; leave a corpus out")
        if not 0 < self.cache_gigabytes < math.inf:
            raise UserError(f"data.cache_gigabytes is {self.cache_gigabytes}, it must be above 0")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long to train, and what to write when."""

    steps: int = 300
    """Steps in all; each is an optimizer update, or several (optim.prefixes_per_update)."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last step is always saved."""
    checkpoint_minutes: float | None = None
    """Minutes between checkpoints, for those that come sooner than by steps; looked at with every
    line of metrics.jsonl. None to go by steps alone.
    """
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
    wandb: str | None = None
    """Project of Weights & Biases to draw the curves of metrics.jsonl in too, through its package;
    None for none."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("checkpoint_minutes", "wandb"):
                continue
            if value is not None and value < 1:
                raise UserError(f"train.{field.name} is {value}, it must be at least 1")
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            raise UserError(
                f"train.checkpoint_minutes is {self.checkpoint_minutes}, it must be above 0"
            )
        if self.patience is not None and self.best_every is None:
            raise UserError("train.patience counts measurements: set train.best_every too")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    template: TemplateConfig = TemplateConfig()
    grid: GridConfig = GridConfig()
    model: TransformerConfig = TransformerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    heldout: HeldoutConfig = HeldoutConfig()
    mesh: MeshConfig = MeshConfig()
    tile: TileConfig = TileConfig()
    seed: int = 0
    """Seed of the weights, the order of blocks and the held-out grids."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise UserError(f"seed is {self.seed}, it must be at least 0 and below 2**31")
        if self.train.best_every is not None and self.data.valid is None:
            raise UserError("train.best_every measures on data.valid, which is not set")
        if self.objective.loss == "causal_lm":
            self._check_language()
        per_update, prefixes = self.prefixes_per_update, self.grid.prefixes
        _check_divides("optim.prefixes_per_update", per_update, "grid.prefixes", prefixes)
        rows, some = self.tile.prefixes or per_update, self.tile.suffixes or prefixes
        _check_divides("tile.prefixes", rows, "the prefixes of an update", per_update)
        _check_divides("tile.suffixes", some, "grid.prefixes", prefixes)
        self._check_mesh(
            ("data", "grid.grids_per_step", self.grid.grids_per_step),
            ("fsdp", "grid.prefixes", self.grid.prefixes),
            ("fsdp", "optim.prefixes_per_update", per_update),
            ("fsdp", "tile.prefixes", rows),
            ("fsdp", "heldout.candidates", self.heldout.candidates),
        )
        if self.model.init is None:  # else its sizes are not known yet
            self.check_model()

    def check_model(self) -> None:
        """Whether the model's sizes fit the text and the mesh.

        Raises:
          UserError: they do not.
        """
        if self.tokens_used > self.model.max_positions:
            raise UserError(
                f"prefix + suffix = {self.tokens_used} tokens exceed model.max_positions "
                f"{self.model.max_positions}"
            )
        self._check_mesh(
            ("fsdp", "model.width", self.model.width),
            ("tensor", "model.num_kv_heads", self.model.num_kv_heads),
            ("tensor", "model.mlp_width", self.model.mlp_width),
        )

    def _check_mesh(self, *spread: tuple[str, str, int]) -> None:
        for axis, name, field in spread:
            size = getattr(self.mesh.sizes, axis)
            if field % size:
                below, above = field // size * size, -(-field // size) * size
                nearest = f"{below} or {above}" if below else f"{above}"
                raise UserError(
                    f"mesh.{axis} {size} does not divide {name} {field}; the nearest is {nearest}"
                )

    def _check_language(self) -> None:
        """A language model reads whole blocks and knows no pairs."""
        meaningless = {
            "optim.prefixes_per_update": self.optim.prefixes_per_update is not None,
            "optim.freeze trunk": self.optim.freeze == "trunk",
            "template.form": self.template.form != "plain",
            "grid.same_document seek": self.grid.same_document == "seek",
            "grid.permute_positives": self.grid.permute_positives,
            "grid.negatives_per_prefix": self.grid.negatives_per_prefix is not None,
            "tile.suffixes": self.tile.suffixes not in (None, self.grid.prefixes),
        }
        for name, is_set in meaningless.items():
            if is_set:
                raise UserError(f"{name} means nothing to objective.loss causal_lm; leave it out")

    @property
    def kind(self) -> type[Model]:
        """What is trained: a reward model, or by the language loss a language model."""
        return LanguageModel if self.objective.loss == "causal_lm" else RewardModel

    @property
    def tokens_used(self) -> int:
        """Ids of the longest prefix and suffix, in training or held out [tokens]."""
        cuts = {self.split.breakpoint, self.heldout.breakpoint}
        return max(dataclasses.replace(self.split, breakpoint=cut).tokens_used for cut in cuts)

    @property
    def prefixes_per_update(self) -> int:
        """Prefixes of a grid that make one optimizer update."""
        return self.optim.prefixes_per_update or self.grid.prefixes

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates of a step, one after another."""
        return self.grid.prefixes // self.prefixes_per_update


def _check_divides(part: str, size: int, whole: str, number: int) -> None:
    if number % size:
        nearest = " or ".join(map(str, _nearest_divisors(number, size)))
        raise UserError(f"{part} {size} does not divide {whole} {number}; the nearest is {nearest}")


def _nearest_divisors(number: int, wanted: int) -> list[int]:
    """The divisors of a number just below and above a wanted one that is none."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return [max(d for d in divisors if d < wanted), *[d for d in divisors if d > wanted][:1]]


def load_experiment(path: Path) -> Experiment:
    """The value called `experiment` in a python file, which may import the files beside it.

    Raises:
      UserError: no such file, the file fails, or it defines no Experiment.
    """
    return load_value(path, "experiment", Experiment)


def to_json(experiment: Experiment) -> dict[str, Any]:
    """Plain dicts, lists, strings and numbers; `from_json` reads them back to an equal value."""
    return json.loads(json.dumps(dataclasses.asdict(experiment)))


def from_json(fields: dict[str, Any]) -> Experiment:
    """The experiment that `to_json` wrote; fields that its version had not are as by default.

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
        elif typing.get_origin(hints[name]) is tuple:  # where some versions wrote a name alone
            built[name] = (value,) if isinstance(value, str) else tuple(value)
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
