"""The training run: a loop, and what it leaves in its folder.

OUT/metrics.jsonl     a line every few steps
OUT/checkpoints/      by orbax, one folder a step
OUT/tokenizer.json    the corpus's own, so that the folder can score text
OUT/untrained.json    held-out figures before the first step
OUT/result.json       held-out figures after the last
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from rbs_jax.data.corpus import Corpus
from rbs_jax.data.stream import Stream
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, differences, to_json
from rbs_jax.optim import learning_rate, make_optimizer
from rbs_jax.sharding import make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.feed import Feed
from rbs_jax.train.heldout import Heldout
from rbs_jax.train.metrics import Metrics, read_metrics, write_json
from rbs_jax.train.state import TrainState, abstract, init_state
from rbs_jax.train.step import make_step

MAY_CHANGE = ("train.log_every", "train.checkpoint_every", "train.keep", "mesh.", "data.")
"""What a resumed run may set anew; the corpus is compared by fingerprint, not by path."""


def train(experiment: Experiment, out: Path) -> dict[str, Any]:
    """Train to the last step, resuming where `out` already holds a run; returns result.json.

    In order:
      1. open the corpora and check that they fit the model;
      2. take up the newest whole checkpoint, or fresh weights from the seed;
      3. measure the untrained model, once in the life of the folder;
      4. step, log, save;
      5. measure the trained model.

    Raises:
      UserError: a corpus does not fit, the folder holds another run, or the loss
        is no longer a number.
    """
    mesh = make_mesh(experiment.mesh)
    corpora = open_corpora(experiment)
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(experiment.optim, experiment.train.steps)
        out.mkdir(parents=True, exist_ok=True)
        checkpoints = Checkpoints(out, experiment.train.keep)
        try:
            heldout = {
                name: _heldout(corpus, experiment)
                for name, corpus in corpora.items()
                if name != "train"
            }
            start, state = _restore_or_init(
                experiment, corpora["train"], optimizer, checkpoints, mesh
            )
            corpora["train"].tokens().save(out)
            untrained = _untrained(out / "untrained.json", heldout, experiment, mesh)
            state = _run(
                experiment, corpora["train"], optimizer, checkpoints, mesh, out, start, state
            )
        finally:
            checkpoints.close()
        figures = _figures(heldout, state, experiment, mesh)
    result = _result(experiment, out, figures, untrained, heldout)
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


def _heldout(corpus: Corpus, experiment: Experiment) -> Heldout:
    return Heldout(
        corpus,
        experiment.split,
        experiment.grid.prefixes,
        experiment.train.heldout_grids,
        experiment.seed,
    )


def _figures(
    heldout: dict[str, Heldout], state: TrainState, experiment: Experiment, mesh: Mesh
) -> dict[str, Any]:
    grids = experiment.grid.grids_per_step
    return {name: grid.figures(state.model, mesh, grids) for name, grid in heldout.items()}


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
    if changed:
        raise UserError(
            f"--out holds a run with other settings ({'; '.join(changed)}); give another --out"
        )
    print(f"resuming at step {start}", flush=True)
    return start, checkpoints.restore(start, abstract(mesh, jax.eval_shape(init)))


def _untrained(
    path: Path, heldout: dict[str, Heldout], experiment: Experiment, mesh: Mesh
) -> dict[str, Any]:
    """Held-out figures of the fresh weights; kept, so that a resumed run need not measure again."""
    if not path.is_file():
        fresh = jax.jit(lambda: init_state(experiment.model, optax.identity(), experiment.seed))()
        write_json(path, _figures(heldout, fresh, experiment, mesh))
    return json.loads(path.read_text(encoding="utf-8"))


def _run(
    experiment: Experiment,
    corpus: Corpus,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    mesh: Mesh,
    out: Path,
    start: int,
    state: TrainState,
) -> TrainState:
    """Steps start + 1 to the last, with metrics read one step late so that devices never wait."""
    config, grid = experiment.train, experiment.grid
    stream = Stream(corpus, experiment.split, grid, experiment.seed)
    feed = Feed(stream, mesh, grid.grids_per_step, start, config.steps)
    step = make_step(optimizer, experiment.objective)
    rate = learning_rate(experiment.optim, config.steps)
    metrics = Metrics(out / "metrics.jsonl", start, config.steps)
    clock = _Clock(experiment, feed, start)
    data = {"fingerprint": corpus.manifest.fingerprint}
    pending: tuple[int, dict[str, jax.Array]] | None = None

    def settle() -> None:
        if pending is None:
            return
        done, values = pending
        record = {name: np.asarray(value).item() for name, value in values.items()}
        if not np.isfinite(record["loss"]) or not np.isfinite(record["grad_norm"]):
            raise UserError(
                f"step {done}: loss {record['loss']}, gradient norm {record['grad_norm']}; lower "
                f"--optim.learning-rate; the newest checkpoint is {checkpoints.newest()}"
            )
        if done % config.log_every == 0 or done == config.steps:
            record["learning_rate"] = float(rate(done - 1))
            epoch = (done - 1) / stream.steps_per_epoch
            metrics.write({"step": done, "epoch": epoch} | record | clock.lap(done))

    try:
        for done, batch in enumerate(feed, start=start + 1):
            state, values = step(state, batch)
            settle()
            pending = done, values
            if done % config.checkpoint_every == 0 or done == config.steps:
                settle()
                pending = None
                checkpoints.save(done, state, {"next_step": done} | data, experiment)
    finally:
        metrics.close()
    return state


class _Clock:
    """Speed between two lines of metrics.jsonl."""

    def __init__(self, experiment: Experiment, feed: Feed, start: int) -> None:
        grid, split = experiment.grid, experiment.split
        prefixes = grid.grids_per_step * grid.prefixes
        self._pairs = prefixes * grid.prefixes
        self._unique = prefixes * (split.prefix_length + split.suffix_length)
        self._run = prefixes * split.prefix_length + self._pairs * split.suffix_length
        self._feed = feed
        self._step, self._time, self._waited = start, time.perf_counter(), 0.0

    def lap(self, done: int) -> dict[str, float]:
        """The time fields of a record."""
        now, steps = time.perf_counter(), done - self._step
        seconds, waited = now - self._time, self._feed.waited - self._waited
        self._step, self._time, self._waited = done, now, self._feed.waited
        return {
            "seconds": seconds,
            "pairs_per_second": self._pairs * steps / seconds,
            "unique_tokens_per_second": self._unique * steps / seconds,
            "tokens_per_second": self._run * steps / seconds,
            "data_wait_share": waited / seconds,
        }


def _result(
    experiment: Experiment,
    out: Path,
    figures: dict[str, Any],
    untrained: dict[str, Any],
    heldout: dict[str, Heldout],
) -> dict[str, Any]:
    records = read_metrics(out / "metrics.jsonl")
    reported = "test" if "test" in heldout else "valid"
    controls = heldout[reported].controls() if reported in heldout else None
    return {
        "test": figures.get("test"),
        "untrained": untrained.get(reported),
        "valid": figures.get("valid"),
        "candidates": experiment.grid.prefixes,
        "controls": controls,
        "pairs_per_second": float(np.median([r["pairs_per_second"] for r in records])),
        "train_seconds": sum(r["seconds"] for r in records),
        "checkpoint": f"{out}@{experiment.train.steps}",
    }
