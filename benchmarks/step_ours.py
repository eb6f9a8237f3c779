"""Our side of benchmarks/step.py: the step as it trains, and the same without sharing."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from step_task import MATMUL, OBJECTIVE, OPTIM, PAD, First, Step, Task, matmul_speed, matmul_width
from turns import Peak, divisors, fastest, give_back_memory, own_memory, take_threads

from rbs_jax.convert.config import config_json
from rbs_jax.convert.write import write_weights
from rbs_jax.files import write_json
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import fresh
from rbs_jax.model.reward import RewardModel, scores
from rbs_jax.objective import objective
from rbs_jax.optim import make_optimizer
from rbs_jax.shapes import GridBatch, TokenGrid
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.state import TrainState, init_state
from rbs_jax.train.step import make_step
from rbs_jax.train.tile import TileConfig

STEPS = 1000
"""Of the run that the optimizer's schedule is made for; it is constant."""


class Backend:
    """JAX on this machine, before any program runs."""

    def describe(self) -> dict[str, Any]:
        """What it runs on."""
        device = jax.devices()[0]
        return {"platform": device.platform, "name": device.device_kind, "jax": jax.__version__}

    def write_weights(self, config: TransformerConfig, folder: Path, seed: int) -> None:
        """The weights that all programs start from, as a Hugging Face folder."""
        with jax.set_mesh(make_mesh(MeshConfig())):
            model = fresh(RewardModel, seed, config)
            fields = config_json(config, "SequenceClassification", "float32", {"pad_token_id": PAD})
            write_json(folder / "config.json", fields)
            write_weights(model, config, config.vocab_size, folder, "float32")


class Ours:
    """A train step in JAX, whose state is given from step to step."""

    def __init__(self, task: Task) -> None:
        take_threads(task.threads)
        self._task, self._mesh = task, make_mesh(MeshConfig())
        jax.set_mesh(self._mesh)
        self._before = own_memory()
        self._optimizer = make_optimizer(OPTIM, STEPS, updates_per_step=1)
        model = fresh(RewardModel, task.seed, task.model)
        self._state: Any = jax.jit(init_state, static_argnums=1)(model, self._optimizer)

    def choose(self) -> int | None:
        """How many rows at a time are fastest; None where there is nothing to choose."""
        return None

    def first(self, size: int | None) -> First:
        """Compile, and make the step that moves nothing."""
        self._step, self._batch = self._made(size)
        self._state, metrics = self._step(self._state, self._batch)
        first = First(float(metrics["loss"]), float(metrics["grad_norm"]))
        give_back_memory()
        return first

    def step(self) -> Step:
        """Make a step."""
        with Peak() as peak:
            began = time.perf_counter()
            self._state, metrics = self._step(self._state, self._batch)
            jax.block_until_ready((self._state, metrics))
            seconds = time.perf_counter() - began
        stats = jax.devices()[0].memory_stats()
        return Step(seconds, stats["peak_bytes_in_use"] if stats else peak.bytes - self._before)

    def matmul(self) -> float:
        """Products of large square matrices in the compute dtype [FLOP/s]."""
        width = matmul_width(jax.default_backend() != "cpu")
        x = jax.random.normal(jax.random.key(0), (width, width), self._task.dtype) / width**0.5

        def chain(x: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, MATMUL, lambda _, y: y @ x, x)

        compiled = jax.jit(chain)

        def seconds() -> float:
            began = time.perf_counter()
            jax.block_until_ready(compiled(x))
            return time.perf_counter() - began

        return matmul_speed(seconds, width)

    def _made(self, size: int | None) -> tuple[Any, Any]:
        """The compiled step and its batch."""
        raise NotImplementedError

    def _on_device(self, x: np.ndarray, *axes: str | None) -> jax.Array:
        return jax.device_put(x, NamedSharding(self._mesh, PartitionSpec(*axes)))


class Shared(Ours):
    """What `rbs train` runs: each prefix encoded once for all suffixes."""

    def choose(self) -> int | None:
        """How many prefixes at a time are fastest, as `rbs train --tile.prefixes` takes them."""

        def seconds_each(rows: int) -> float | None:
            step, batch = self._made(rows)
            try:
                state, _ = jax.block_until_ready(step(jax.tree.map(jnp.copy, self._state), batch))
                began = time.perf_counter()
                jax.block_until_ready(step(state, batch))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                return None
            return time.perf_counter() - began

        return fastest(divisors(self._task.shape.prefixes), seconds_each)

    def _made(self, size: int | None) -> tuple[Any, Any]:
        prefixes_PC, suffixes_ST = self._task.texts()
        count, prefix, suffix = self._task.shape
        rows = self._on_device
        tokens = TokenGrid(
            rows(prefixes_PC[None], "data", "fsdp"),
            rows(np.full((1, count), prefix, np.int32), "data", "fsdp"),
            rows(suffixes_ST[None], "data"),
            rows(np.full((1, count), suffix, np.int32), "data"),
        )
        positive_GP = np.arange(count, dtype=np.int32)[None]
        batch = GridBatch(
            tokens,
            rows(positive_GP, "data", "fsdp"),
            rows(~np.eye(count, dtype=bool)[None], "data", "fsdp"),
        )
        return make_step(self._optimizer, OBJECTIVE, OPTIM, TileConfig(size)), batch


class Alone(Ours):
    """Each suffix after each prefix as a text of its own, some prefixes' texts at a time."""

    def choose(self) -> int | None:
        """How many prefixes' texts at a time are fastest."""
        gradient = jax.jit(jax.value_and_grad(self._loss))

        def seconds_each(rows: int) -> float | None:
            part = jax.tree.map(lambda x: x[0], self._parts(rows))
            try:
                jax.block_until_ready(gradient(self._state.model, part))
                began = time.perf_counter()
                jax.block_until_ready(gradient(self._state.model, part))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                return None
            return (time.perf_counter() - began) / rows

        return fastest(divisors(self._task.shape.prefixes), seconds_each)

    def _made(self, size: int | None) -> tuple[Any, Any]:
        assert size is not None
        return jax.jit(self._update, donate_argnums=0), self._parts(size)

    def _parts(self, rows: int) -> tuple[jax.Array, jax.Array]:
        """The texts [N, 1, R, S, C + T] and the positives [N, 1, R], `rows` prefixes in a part."""
        whole_PST, count = self._task.whole_texts(), self._task.shape.prefixes
        parts = count // rows
        tokens = whole_PST.reshape(parts, 1, rows, count, -1)
        positive = np.arange(count, dtype=np.int32).reshape(parts, 1, rows)
        axes = (None, "data", "fsdp")
        return self._on_device(tokens, *axes), self._on_device(positive, *axes)

    def _loss(self, model: RewardModel, part: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Of a part's prefixes, as its share of the whole grid's."""
        tokens_GRST, positive_GR = part
        lengths_GRS = jnp.full_like(tokens_GRST[..., 0], tokens_GRST.shape[-1])
        r_GRS = scores(model, tokens_GRST, lengths_GRS)
        negatives_GRS = jnp.arange(r_GRS.shape[-1]) != positive_GR[..., None]
        loss = objective(r_GRS, positive_GR, negatives_GRS, OBJECTIVE)[0]
        return loss * r_GRS.shape[1] / self._task.shape.prefixes

    def _update(
        self, state: TrainState, parts: tuple[jax.Array, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        def add(total: Any, part: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            made = jax.value_and_grad(self._loss)(state.model, part)
            return jax.tree.map(jnp.add, total, made), None

        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.model))
        (loss, grads), _ = jax.lax.scan(add, nothing, parts)
        metrics = {"loss": loss, "grad_norm": optax.global_norm(grads)}
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.model)
        model = optax.apply_updates(state.model, updates)
        return state._replace(model=model, opt_state=opt_state), metrics
