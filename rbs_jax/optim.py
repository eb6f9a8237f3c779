"""The learning-rate schedule, AdamW, and which parameters they move."""

import dataclasses
import math
from typing import Any, Literal

import jax
import optax

from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW behind a clip by global norm."""

    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 20
    """Length of the linear rise from rate 0, in what warmup_counts says; if > 0, it starts at 0."""
    warmup_counts: Literal["steps", "updates"] = "steps"
    """What the rate follows: steps, all updates of one at one rate (the paper's code), or updates.
    The same unless prefixes_per_update makes several updates of a step."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What follows the warm-up; cosine falls to a tenth of the peak at the run's end."""
    weight_decay: float = 0.01
    """Decoupled decay, relative to the learning rate."""
    decay: Literal["all", "matrices"] = "all"
    """What decays: every parameter (the paper's code), or all but norm scales and biases."""
    freeze: Literal["nothing", "embeddings", "trunk"] = "nothing"
    """What stays as it was: the embedding table, or all but the head."""
    prefixes_per_update: int | None = None
    """Prefixes of a grid whose mean loss makes one update; None for all (the paper's page; its
    released code: 1). Later updates of a step see weights that earlier ones moved."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    first_moment: Literal["float32", "bfloat16"] = "float32"
    """Dtype in which that mean is kept; bfloat16 saves 2 bytes a parameter."""
    beta2: float = 0.999
    """Decay of the squared gradient's running mean."""
    eps: float = 1e-8
    """Added to the root of the squared gradient's mean."""
    clip_norm: float = 1.0
    """Largest global gradient norm; longer gradients are scaled down to it."""

    def __post_init__(self) -> None:
        if self.prefixes_per_update is not None and self.prefixes_per_update < 1:
            raise UserError(
                f"optim.prefixes_per_update is {self.prefixes_per_update}, it must be at least 1"
            )
        if self.warmup_steps < 0:
            raise UserError(f"optim.warmup_steps is {self.warmup_steps}, it cannot be negative")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UserError("optim.beta1 and optim.beta2 must be at least 0 and below 1")
        for name in ("learning_rate", "clip_norm", "eps", "weight_decay"):
            value, may_be_0 = getattr(self, name), name == "weight_decay"
            if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_0):
                least = "at least 0" if may_be_0 else "positive"
                raise UserError(f"optim.{name} is {value}, it must be finite and {least}")


def learning_rate(config: OptimConfig, steps: int, updates_per_step: int) -> optax.Schedule:
    """Updates done -> rate of the next, for a run of `steps` steps."""
    peak, warmup = config.learning_rate, config.warmup_steps
    updates_per_tick = updates_per_step if config.warmup_counts == "steps" else 1
    ticks = steps * updates_per_step // updates_per_tick
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(ticks - warmup, 1), alpha=0.1)
    else:
        after = optax.constant_schedule(peak)
    by_tick = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
    return lambda updates: by_tick(updates // updates_per_tick)


def make_optimizer(
    config: OptimConfig, steps: int, updates_per_step: int
) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW at the scheduled rate, on what is not frozen.

    Frozen parameters have no moments: the state holds nothing for them.
    """
    free = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps, updates_per_step),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.eps,
            mu_dtype=config.first_moment,
            weight_decay=config.weight_decay,
            mask=_is_matrix if config.decay == "matrices" else None,
        ),
    )
    if config.freeze == "nothing":
        return free

    def labels(model: Any) -> Any:
        return jax.tree.map(lambda held: "held" if held else "free", frozen(model, config))

    return optax.partition({"free": free, "held": optax.set_to_zero()}, labels)


def frozen(model: Any, config: OptimConfig) -> Any:
    """Which parameters of a reward model stay as they are, as a pytree of bools."""
    held = {"nothing": "", "embeddings": ".trunk.embedding", "trunk": ".trunk"}[config.freeze]

    def is_frozen(path: Any, _: Any) -> bool:
        return bool(held) and f"{jax.tree_util.keystr(path)}.".startswith(f"{held}.")

    return jax.tree_util.tree_map_with_path(is_frozen, model)


def _is_matrix(model: Any) -> Any:
    """False for norm scales and biases, by name: stacked over layers, they have two axes too."""

    def is_matrix(path: Any, _: Any) -> bool:
        name = jax.tree_util.keystr(path)
        return "norm" not in name and "bias" not in name

    return jax.tree_util.tree_map_with_path(is_matrix, model)
