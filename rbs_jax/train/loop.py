"""The training run: a loop, and what it leaves in its folder.

OUT/metrics.jsonl     a line every few steps
OUT/checkpoints/      by orbax, one folder a step
OUT/tokenizer.json    the corpus's own, so that the folder can score text
OUT/untrained.json    held-out figures before the first step
OUT/result.json       held-out figures after the last
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from rbs_jax.data.reader import Corpus
from rbs_jax.data.stream import Stream
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, differences, to_json
from rbs_jax.files import make_folder, write_json
from rbs_jax.model.reward import init_reward_model
from rbs_jax.objective import Metrics as StepMetrics
from rbs_jax.optim import learning_rate, make_optimizer
from rbs_jax.sharding import make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.feed import Feed
from rbs_jax.train.heldout import Figures, Heldout
from rbs_jax.train.metrics import SPEEDS, Clock, Metrics, read_metrics
from rbs_jax.train.state import TrainState, abstract, init_state
from rbs_jax.train.step import make_step

MAY_CHANGE = ("train.log_every", "train.checkpoint_every", "train.keep", "mesh.", "data.")
"""What a resumed run may set anew; the corpus is compared by fingerprint, not by path."""


def train(experiment: Experiment, out: Path) -> dict[str, Any]:
    """Train to the last step, resuming where `out` already holds a run; returns result.json.

    In order:
      1. open the corpora and check that they fit the model;
      2. take up the newest whole checkpoint, or fresh weights from the seed;
      3. measure the untrained model, before the first step;
      4. step, log, save;
      5. measure the trained model.

    Raises:
      UserError: a corpus does not fit, the folder holds another run, or the loss
        is no longer a number.
    """
    mesh = make_mesh(experiment.mesh)
    corpora = open_corpora(experiment)
    corpus = corpora.pop("train")
    stream = Stream(corpus, experiment.split, experiment.grid, experiment.seed)
    heldout = {
        name: Heldout(other, experiment.split, experiment.heldout, experiment.seed)
        for name, other in corpora.items()
    }
    make_folder(out)
    with jax.set_mesh(mesh), Checkpoints(out, experiment.train.keep) as checkpoints:
        optimizer = make_optimizer(experiment.optim, experiment.train.steps)
        start, state = _restore_or_init(experiment, corpus, optimizer, checkpoints, mesh)
        corpus.tokens().save(out)
        reported = next((name for name in ("test", "valid") if name in heldout), None)
        beside: dict[str, Any] = {"reported": reported, "untrained": None, "controls": None}
        if reported is not None:
            grids, fingerprint = heldout[reported], corpora[reported].manifest.fingerprint
            untrained = _untrained(
                out / "untrained.json", grids, fingerprint, experiment, start, mesh
            )
            beside |= {"untrained": untrained, "controls": grids.controls()}
        run = _Run(experiment, out, mesh, stream, optimizer, checkpoints)
        state = run.steps(start, state, corpus.manifest.fingerprint)
        measured = {name: grids.figures(state.model, mesh) for name, grids in heldout.items()}
    result = _result(experiment, out, measured) | beside
    write_json(out / "result.json", result)
    return result


def open_corpora(experiment: Experiment) -> dict[str, Corpus]:
    """The corpora that the experiment names, checked against each other and the model.

    Raises:
      UserError: one is missing, ids exceed the vocabulary, or tokenizers differ.
    """
    named = {
        "train": experiment.data.train,
        "valid": experiment.data.valid,
        "test": experiment.data.test,
    }
    if not named["train"]:
        raise UserError("data.train is not set: give the corpus to train on with --data.train")
    corpora = {name: Corpus(Path(path)) for name, path in named.items() if path}
    for name, corpus in corpora.items():
        manifest = corpus.manifest
        if manifest.vocab_size > experiment.model.vocab_size:
            raise UserError(
                f"data.{name} {corpus.folder}: the tokenizer has {manifest.vocab_size} ids, "
                f"model.vocab_size is {experiment.model.vocab_size}; "
                f"set --model.vocab-size {manifest.vocab_size}"
            )
        if manifest.tokenizer_sha256 != corpora["train"].manifest.tokenizer_sha256:
            raise UserError(
                f"data.{name} {corpus.folder}: not the tokenizer of data.train; "
                f"prepare it with --tokenizer {corpora['train'].folder}"
            )
    return corpora


def _untrained(
    path: Path, grids: Heldout, fingerprint: str, experiment: Experiment, start: int, mesh: Mesh
) -> Figures:
    """Figures of the fresh weights; a run that goes on keeps those it has of the same corpus."""
    if start > 0 and path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["fingerprint"] == fingerprint:
            return kept["figures"]
    fresh = init_reward_model(jax.random.key(experiment.seed), experiment.model)
    figures = grids.figures(fresh, mesh)
    write_json(path, {"fingerprint": fingerprint, "figures": figures})
    return figures


def _restore_or_init(
    experiment: Experiment,
    corpus: Corpus,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    mesh: Mesh,
) -> tuple[int, TrainState]:
    """The step to go on from, and the state there."""

    def init() -> TrainState:
        return init_state(experiment.model, optimizer, experiment.seed)

    start = checkpoints.newest()
    if start is None:
        return 0, jax.jit(init)()
    data, config = checkpoints.notes(start)
    if data["fingerprint"] != corpus.manifest.fingerprint:
        raise UserError(
            f"--out holds a run on another corpus: fingerprint {data['fingerprint'][:12]}, "
            f"{corpus.folder} has {corpus.manifest.fingerprint[:12]}; give another --out"
        )
    changed = [
        change
        for change in differences(config, to_json(experiment))
        if not change.startswith(MAY_CHANGE)
        and not (change.startswith("train.steps:") and experiment.optim.schedule == "constant")
    ]
    if start > experiment.train.steps:
        raise UserError(
            f"--out holds a run of {start} steps already, train.steps is {experiment.train.steps}; "
            "give more steps or another --out"
        )
    if changed:
        raise UserError(
            f"--out holds a run with other settings ({'; '.join(changed)}); give another --out"
        )
    print(f"resuming at step {start}", flush=True)
    return start, checkpoints.restore(start, abstract(mesh, jax.eval_shape(init)))


class _Run(NamedTuple):
    """What the steps need and do not change."""

    experiment: Experiment
    out: Path
    mesh: Mesh
    stream: Stream
    optimizer: optax.GradientTransformation
    checkpoints: Checkpoints

    def steps(self, start: int, state: TrainState, fingerprint: str) -> TrainState:
        """Steps start + 1 to the last; metrics are read one step late, so devices never wait."""
        config = self.experiment.train
        grids = self.experiment.grid.grids_per_step
        feed = Feed(self.stream, self.mesh, grids, start, config.steps)
        step = make_step(self.optimizer, self.experiment.objective)
        clock = Clock(self.experiment.grid, self.experiment.split, start)
        pending: tuple[int, StepMetrics] | None = None
        with Metrics(self.out / "metrics.jsonl", start, config.steps) as metrics:
            for done, batch in enumerate(feed, start=start + 1):
                state, values = step(state, batch)
                if pending is not None:
                    self._log(*pending, metrics, clock, feed.waited)
                pending = done, values
                if done % config.checkpoint_every == 0 or done == config.steps:
                    # Read at once: nothing that is no number is ever saved.
                    self._log(*pending, metrics, clock, feed.waited)
                    pending = None
                    data = {"next_step": done, "fingerprint": fingerprint}
                    self.checkpoints.save(done, state, data, self.experiment)
        return state

    def _log(
        self, done: int, values: StepMetrics, metrics: Metrics, clock: Clock, waited: float
    ) -> None:
        record = {name: np.asarray(value).item() for name, value in values.items()}
        if not np.isfinite(record["loss"]) or not np.isfinite(record["grad_norm"]):
            raise UserError(
                f"step {done}: loss {record['loss']}, gradient norm {record['grad_norm']}; lower "
                f"--optim.learning-rate; the newest checkpoint is {self.checkpoints.newest()}"
            )
        config = self.experiment.train
        if done % config.log_every == 0 or done == config.steps:
            rate = learning_rate(self.experiment.optim, config.steps)
            place = {"step": done, "epoch": (done - 1) / self.stream.steps_per_epoch}
            record |= {"learning_rate": float(rate(done - 1))}
            metrics.write(place | record | clock.lap(done, waited))


def _result(experiment: Experiment, out: Path, measured: dict[str, Figures]) -> dict[str, Any]:
    records = read_metrics(out / "metrics.jsonl")
    return {
        "test": measured.get("test"),
        "valid": measured.get("valid"),
        "candidates": experiment.heldout.candidates,
        **{
            name: float(np.median([r[name] for r in records])) if records else None
            for name in (*SPEEDS, "data_wait_share")
        },
        "train_seconds": sum(r["seconds"] for r in records),
        "checkpoint": f"{out}@{experiment.train.steps}",
    }
