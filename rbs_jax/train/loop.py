"""A training run from its corpora to its result, and what it leaves in its folder, OUT.

OUT/metrics.jsonl     a line every few steps
OUT/tensorboard/      its numbers as curves, for TensorBoard
OUT/heartbeat.json    where the run stands
OUT/profile/          a trace of a few steps, where one is asked for
OUT/checkpoints/      by orbax, one folder a step
OUT/tokenizer.json    the corpus's own, so that the folder can score text
OUT/untrained.json    held-out figures before the first step
OUT/untrained_suites.json   and those of benchmarks, where some are watched
OUT/result.json       held-out figures after the last
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from rbs_jax.data.reader import Corpus
from rbs_jax.data.stream import BlockStream, GridStream, Stream
from rbs_jax.data.template import Template
from rbs_jax.errors import Preempted, UserError
from rbs_jax.experiment import Experiment, from_json
from rbs_jax.files import locked, write_json
from rbs_jax.hosts.together import first_says, is_first
from rbs_jax.model.language import LanguageModel
from rbs_jax.optim import make_optimizer
from rbs_jax.sharding import make_mesh
from rbs_jax.train.alike import refuse_other_settings
from rbs_jax.train.checkpoint import SELECTED_BY, Checkpoints
from rbs_jax.train.corpora import open_corpora
from rbs_jax.train.curves import installed_wandb
from rbs_jax.train.feed import Feed
from rbs_jax.train.fit import Fitted, fit
from rbs_jax.train.folder import RunFolder
from rbs_jax.train.heartbeat import Heartbeat
from rbs_jax.train.heldout import Figures, Heldout
from rbs_jax.train.metrics import speeds
from rbs_jax.train.models import start_model, with_sizes
from rbs_jax.train.profile import Profile, parse_steps
from rbs_jax.train.resume import restore_or_init
from rbs_jax.train.run import Run
from rbs_jax.train.state import TrainState
from rbs_jax.train.step import make_step
from rbs_jax.train.tile import TileConfig
from rbs_jax.train.topology import with_mesh
from rbs_jax.train.watch import Watch, Watching


def train(
    experiment: Experiment,
    out: str | Path,
    profile: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train to the last step, resuming where `out` already holds a run; returns result.json.

    Args:
      experiment: what to train.
      out: the run's folder, a path or a URL.
      profile: steps to trace, FIRST:LAST, both included; None for none.
      watch: benchmarks to measure on the way; they choose nothing. None for none.

    In order:
      1. open the corpora and check that they fit the model;
      2. take up the newest whole checkpoint, or the weights to start from;
      3. measure the untrained model, before the first step;
      4. step, log, measure, save, until the last step or an early stop;
      5. measure the last model, or the best on valid where the run selects.

    Raises:
      UserError: a corpus does not fit, the folder holds something else, or too many
        updates in a row have no finite loss, or `profile` names no steps.
      Preempted: SIGTERM came, and the state is saved.
    """
    traced = None if profile is None else parse_steps(profile)
    if experiment.train.wandb is not None and is_first():
        installed_wandb(experiment.train.wandb)  # or it would be found absent after a long start
    refuse_other_settings(experiment)
    experiment = with_sizes(experiment, str(out))
    experiment = with_mesh(experiment)
    mesh = make_mesh(experiment.mesh)
    train_on, fingerprint, corpora = open_corpora(experiment)
    stream = _stream(experiment, train_on)
    heldout = _heldout(experiment, corpora)
    folder = RunFolder(str(out))
    selects = experiment.train.best_every is not None
    fingerprints: dict[str, str | None] = {
        "fingerprint": fingerprint,
        "selected_on": corpora["valid"].manifest.fingerprint if selects else None,
    }
    if stream.share_at_sentence_ends is not None:
        print(
            f"a sentence ends within split.reach in {stream.share_at_sentence_ends:.0%} of blocks, "
            "the rest cut at L1"
        )
    with (
        locked(folder.local, f"{folder.name}: another rbs train is at work there"),
        jax.set_mesh(mesh),
        folder.copied_now_and_then(),
        Checkpoints(folder.name, experiment.train.keep) as checkpoints,
        Heartbeat(folder, experiment.train.steps) as heartbeat,
        Profile(traced, folder) as tracing,
    ):
        optimizer = make_optimizer(
            experiment.optim, experiment.train.steps, experiment.updates_per_step
        )
        start, state = restore_or_init(experiment, fingerprints, optimizer, checkpoints, mesh)
        heartbeat.begin(start)
        train_on[0].tokens().save(folder.local)
        reported = next((name for name in ("test", "valid") if name in heldout), None)
        beside: dict[str, Any] = {"reported": reported, "untrained": None, "controls": None}
        if reported is not None:
            grids, fingerprint = heldout[reported], corpora[reported].manifest.fingerprint
            untrained = _untrained(
                folder.local / "untrained.json", grids, fingerprint, experiment, start, state, mesh
            )
            beside |= {"untrained": untrained, "controls": grids.controls()}
        watching = Watching(watch, experiment, train_on[0].tokens(), mesh)
        before = watching.untrained(
            folder.local,
            start,
            partial(start_model, experiment, mesh) if start else lambda: state.model,
        )
        watched = heldout.get("valid") or heldout.get("test")
        tile, step = _fit(experiment, stream, mesh, optimizer, checkpoints, state)
        experiment = dataclasses.replace(experiment, tile=tile)
        step = tracing.over(step, start, experiment.train.steps)
        run = Run(
            *(experiment, folder, mesh, stream, watched, watching),
            *(step, checkpoints, heartbeat),
        )
        last, state, preempted = run.steps(start, state, fingerprints)
        if preempted:
            checkpoints.wait()
            folder.sync()
            raise Preempted(f"asked to leave, saved step {last} in {folder.name}")
        heartbeat.enter("measuring")
        chosen, model = last, state.model
        if selects:
            chosen = checkpoints.best() or last
            model = checkpoints.restore_model(chosen, model)
        measured = {name: grids.figures(model, mesh) for name, grids in heldout.items()}
        after = watching.trained(folder.local, f"{folder.name}@{chosen}", model)
    result = {
        "test": measured.get("test"),
        "valid": measured.get("valid"),
        "candidates": experiment.heldout.candidates,
        "steps": last,
        "skipped_updates": int(state.skipped),
        "share_at_sentence_ends": stream.share_at_sentence_ends,
        **speeds(folder.local / "metrics.jsonl"),
        "checkpoint": f"{folder.name}@{chosen}",
        "chosen_by": f"valid {SELECTED_BY}" if selects else "last step",
        "suites": {"untrained": before, "trained": after},
        **beside,
    }
    write_json(folder.local / "result.json", result)
    heartbeat.enter("done")
    folder.sync()
    return first_says(lambda: result)


def _stream(experiment: Experiment, corpora: Sequence[Corpus]) -> Stream[Any]:
    """The training batches, checked against the model's positions.

    Raises:
      UserError: a corpus is too small, or its blocks too long.
    """
    longest, what = corpora[0].manifest.block_length, "a block"
    if experiment.kind is not LanguageModel:
        around = Template(experiment.template, corpora[0].tokens()).wrapping()
        longest = experiment.tokens_used + sum(map(len, around))
        what = "prefix, suffix and template"
    if longest > experiment.model.max_positions:
        raise UserError(
            f"{what} of {longest} tokens exceed model.max_positions "
            f"{experiment.model.max_positions}"
        )
    grid, seed = experiment.grid, experiment.seed
    if experiment.kind is LanguageModel:
        return BlockStream(corpora, grid, seed, experiment.data.weights)
    return GridStream(
        *(corpora, experiment.split, grid, seed),
        *(experiment.template, experiment.data.weights),
    )


def _heldout(experiment: Experiment, corpora: dict[str, Corpus]) -> dict[str, Heldout]:
    """The held-out grids of valid and test, as far as they are given.

    Raises:
      UserError: a corpus is too small, or the best is to be chosen on one without pairs.
    """
    heldout = {
        name: Heldout(
            *(corpus, experiment.split, experiment.heldout),
            *(experiment.seed, experiment.template),
        )
        for name, corpus in corpora.items()
    }
    if experiment.train.best_every is not None and not heldout["valid"].has_same_document_pairs():
        raise UserError(
            f"data.valid {corpora['valid'].folder}: train.best_every needs documents of several "
            "blocks, here are none"
        )
    return heldout


def _fit(
    experiment: Experiment,
    stream: Stream[Any],
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    state: TrainState,
) -> Fitted:
    """The compiled step; a run that goes on keeps its tile on its mesh, unless given another."""
    start = checkpoints.newest()
    if start is not None and experiment.tile == TileConfig():
        kept = from_json(checkpoints.notes(start)[1])
        if kept.mesh == experiment.mesh:
            experiment = dataclasses.replace(experiment, tile=kept.tile)
    step_of = partial(make_step, optimizer, experiment.objective, experiment.optim)
    (batch,) = Feed(stream, mesh, experiment.grid.grids_per_step, 0, 1)
    return fit(experiment, step_of, state, batch)


def _untrained(
    path: Path,
    grids: Heldout,
    fingerprint: str,
    experiment: Experiment,
    start: int,
    state: TrainState,
    mesh: Mesh,
) -> Figures:
    """Figures before the first step; a run that goes on keeps those it has of the same corpus."""
    if start > 0 and path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.get("fingerprint") == fingerprint:
            return kept["figures"]
    figures = grids.figures(start_model(experiment, mesh) if start else state.model, mesh)
    write_json(path, {"fingerprint": fingerprint, "figures": figures})
    return figures
