"""The real train step of an experiment, compiled for a pod: no array is ever made."""

import os
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.grid import make_batch
from rbs_jax.data.split import Halves
from rbs_jax.experiment import Experiment
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.optim import make_optimizer
from rbs_jax.plan.pod import load_libtpu
from rbs_jax.shapes import TokenBlocks
from rbs_jax.sharding import activation_sharding, mesh_of
from rbs_jax.train.feed import BLOCKS, IN_BATCH
from rbs_jax.train.state import TrainState, abstract, init_state
from rbs_jax.train.step import make_step

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
REMATERIALISED = "Involuntary full rematerialization"


class Texts(NamedTuple):
    """How long the texts of a batch are [tokens]."""

    prefix: int
    suffix: int
    block: int
    """Of packed blocks, which the language loss reads instead."""


class Compiled(NamedTuple):
    """A step that fits."""

    memory: dict[str, int]
    """Of a chip, by what it holds [bytes]."""
    text: str
    """The program, as XLA prints it."""


class TooLarge(NamedTuple):
    """A step that does not fit."""

    needed: int | None
    """Of a chip [bytes], as the compiler says."""
    said: str


class Outcome(NamedTuple):
    """What came of compiling."""

    result: Compiled | TooLarge
    seconds: float
    warnings: list[str]
    """Of arrays that the compiler could only copy whole to every chip, one each."""


def abstract_state(experiment: Experiment, mesh: Mesh) -> TrainState:
    """The state of a run: shapes, dtypes and shardings on the mesh, which is the ambient one."""
    shapes = shapes_of(experiment.kind, experiment.model)
    init = partial(init_state, optimizer=_optimizer(experiment))
    return abstract(mesh, jax.eval_shape(init, shapes))


def abstract_batch(experiment: Experiment, texts: Texts, mesh: Mesh) -> Any:
    """A batch of a run: shapes, dtypes and shardings."""
    grids, prefixes = experiment.grid.grids_per_step, experiment.grid.prefixes
    batch: Any
    if experiment.kind is LanguageModel:
        letters: Any = BLOCKS
        block = np.zeros((grids, prefixes, texts.block), np.int32)
        batch = TokenBlocks(block, block)
    else:
        letters, blocks = IN_BATCH, grids * prefixes
        halves = Halves(
            np.zeros((blocks, texts.prefix), np.int32),
            np.zeros(blocks, np.int32),
            np.zeros((blocks, texts.suffix), np.int32),
        )
        batch = make_batch(halves, np.ones((grids, prefixes, prefixes), bool))

    def place(letters: str, x: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=activation_sharding(mesh, letters))

    return jax.tree.map(place, letters, batch)


def lower_step(
    experiment: Experiment, texts: Texts, devices: Sequence[jax.Device]
) -> jax.stages.Lowered:
    """The step on the experiment's mesh of these devices, all of them, ready to be compiled."""
    mesh = mesh_of(experiment.mesh, devices)
    with jax.set_mesh(mesh):
        optim, tile = experiment.optim, experiment.tile
        made = make_step(_optimizer(experiment), experiment.objective, optim, tile)
        step = cast(jax.stages.Wrapped, made)
        return step.lower(abstract_state(experiment, mesh), abstract_batch(experiment, texts, mesh))


def compile_step(experiment: Experiment, texts: Texts, devices: Sequence[jax.Device]) -> Outcome:
    """Compile the step on the experiment's mesh of these devices, all of them.

    Raises:
      RuntimeError: the compiler fails for another reason than memory, or its warnings cannot be
        read.
    """
    began, seen = time.perf_counter(), len(_warnings())
    result: Compiled | TooLarge
    try:
        compiled = lower_step(experiment, texts, devices).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        result = too_large(str(error))
    else:
        result = Compiled(_memory(compiled), compiled.as_text() or "")
    if not any(load_libtpu().iterdir()):
        raise RuntimeError("libtpu logs elsewhere: it was loaded before its log was set")
    return Outcome(result, time.perf_counter() - began, _warnings()[seen:])


def _optimizer(experiment: Experiment) -> Any:
    steps, updates = experiment.train.steps, experiment.updates_per_step
    return make_optimizer(experiment.optim, steps, updates)


def _memory(compiled: Any) -> dict[str, int]:
    """What a chip sets aside, and the most it holds at once."""
    stats = compiled.memory_analysis()
    return {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
        "peak": stats.peak_memory_in_bytes,
    }


def too_large(message: str) -> TooLarge:
    """What the compiler says where a program does not fit: "... (21.11G) exceeds ... (15.75G)"."""
    found = re.search(r"\(([\d.]+)([KMGT]?)\) exceeds|Used ([\d.]+)([KMGT]?) of", message)
    number, unit = [part for part in found.groups() if part is not None] if found else ("", "")
    needed = round(float(number) * UNITS[unit]) if number else None
    return TooLarge(needed, " ".join(message.split()))


def _warnings() -> list[str]:
    """What this process's libtpu has logged of arrays copied whole."""
    logs = load_libtpu().glob(f"*.WARNING.*.{os.getpid()}")
    lines = [line for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    return [line.partition("] ")[2] for line in lines if REMATERIALISED in line]
