"""Where a run goes on from: the newest whole checkpoint, if it is of the same run."""

from functools import partial
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, differences, from_json, to_json
from rbs_jax.model.kinds import shapes_of
from rbs_jax.train.checkpoint import Checkpoints, Notes
from rbs_jax.train.models import start_model
from rbs_jax.train.state import TrainState, abstract, init_state

MAY_CHANGE = (
    *(f"train.{name}" for name in ("log_every", "checkpoint_every", "checkpoint_minutes", "keep")),
    *("train.patience", "train.max_skipped", "train.wandb"),
    "mesh.",
    "tile.",
    "data.",
)
"""What a resumed run may set anew; corpora are compared by fingerprint, not by path."""


def restore_or_init(
    experiment: Experiment,
    fingerprints: dict[str, str | None],
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    mesh: Mesh,
) -> tuple[int, TrainState]:
    """The step to go on from, and the state there."""
    init = partial(init_state, optimizer=optimizer)

    def check(step: int, notes: Notes) -> None:
        _refuse_changes(experiment, fingerprints, *notes, step)

    like = abstract(mesh, jax.eval_shape(init, shapes_of(experiment.kind, experiment.model)))
    found = checkpoints.newest_readable(like, check)
    if found is None:
        return 0, jax.jit(init, donate_argnums=0)(start_model(experiment, mesh))
    print(f"resuming at step {found[0]}", flush=True)
    return found


def _refuse_changes(
    experiment: Experiment,
    fingerprints: dict[str, str | None],
    data: dict[str, Any],
    config: dict[str, Any],
    start: int,
) -> None:
    """Whether the run that a checkpoint belongs to is this one.

    Raises:
      UserError: it has other settings, another corpus, or more steps.
    """
    changed = [
        change
        for change in differences(to_json(from_json(config)), to_json(experiment))
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
    for name, field in (("fingerprint", "data.train"), ("selected_on", "data.valid")):
        if data[name] != fingerprints[name]:
            raise UserError(
                f"--out holds a run on another corpus, or other weights ({field} was "
                f"{str(data[name])[:12]}, is {str(fingerprints[name])[:12]}, by fingerprint); "
                "give another --out"
            )
