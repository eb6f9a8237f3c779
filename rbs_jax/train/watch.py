"""Benchmarks measured while a run trains: learning curves, and never a choice of checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from rbs_jax.data.tokens import Tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.files import write_json
from rbs_jax.model.kinds import Model
from rbs_jax.model.language import LanguageModel
from rbs_jax.train.folder import UNTRAINED_SUITES
from rbs_jax.train.models import LoadedModel

Measured = dict[str, dict[str, Any]]
"""By suite {"n", "accuracy", "ci95"}."""


class Watch(NamedTuple):
    """What to measure, and when."""

    suites: dict[str, str]
    """By name, with a digest of their items, so that a run that goes on knows them again."""
    every: int
    """Steps between measurements; the last step is measured too."""
    measure: Callable[[LoadedModel, Mesh], Measured]


class Watching:
    """A run's benchmarks, with all that is needed to score texts with its model."""

    def __init__(
        self, watch: Watch | None, experiment: Experiment, tokens: Tokens, mesh: Mesh
    ) -> None:
        """Nothing is measured where there is nothing to watch.

        Raises:
          UserError: a language model has no rewards to measure.
        """
        if watch is not None and experiment.kind is LanguageModel:
            raise UserError("a language model has no rewards: leave the suites out")
        self._watch, self._experiment, self._tokens, self._mesh = watch, experiment, tokens, mesh

    def is_due(self, done: int) -> bool:
        """Whether the state after `done` steps is measured."""
        if self._watch is None:
            return False
        return done % self._watch.every == 0 or done == self._experiment.train.steps

    def measure(self, model: Model) -> Measured:
        """The figures of every suite."""
        if self._watch is None:
            return {}
        return self._watch.measure(LoadedModel(model, self._experiment, self._tokens), self._mesh)

    def curves(self, model: Model) -> dict[str, float]:
        """The headline of every suite by its name in metrics.jsonl."""
        return {f"suite_{name}": each["accuracy"] for name, each in self.measure(model).items()}

    def untrained(self, folder: Path, start: int, model: Callable[[], Model]) -> Measured:
        """Figures before the first step, of these suites and of those that the run followed before.

        Args:
          folder: the run's, which keeps them.
          start: steps done.
          model: gives the model before its first step.

        Raises:
          UserError: the run followed another file of a suite, so that its curve would be of two.
        """
        path, kept = folder / UNTRAINED_SUITES, {}
        if start > 0 and path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
        suites = {} if self._watch is None else self._watch.suites
        for name, items in suites.items():
            if name in kept and kept[name]["items"] != items:
                said = (
                    "the run has followed other items of it; give the same file, or another --out"
                )
                raise UserError(f"--suites {name}: {said}")
        if not suites.keys() <= kept.keys():
            figures = self.measure(model())
            kept |= {name: {"items": items} | figures[name] for name, items in suites.items()}
            write_json(path, kept)
        return kept

    def trained(self, folder: Path, checkpoint: str, model: Model) -> Measured:
        """Figures of the reported model, of other suites those that result.json has of it."""
        result, kept = folder / "result.json", {}
        if result.is_file():
            before = json.loads(result.read_text(encoding="utf-8"))
            if before.get("checkpoint") == checkpoint:
                kept = before.get("suites", {}).get("trained", {})
        return kept | self.measure(model)
