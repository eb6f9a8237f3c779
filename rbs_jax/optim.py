"""The learning-rate schedule and AdamW."""

import dataclasses
from typing import Literal

import optax

from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW behind a clip by global norm."""

    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 20
    """Steps over which the rate rises linearly from 0; the first update uses rate 0 if > 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What follows the warm-up; cosine falls to a tenth of the peak at the last step."""
    weight_decay: float = 0.01
    """Decoupled decay of all parameters, relative to the learning rate."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.999
    """Decay of the squared gradient's running mean."""
    eps: float = 1e-8
    """Added to the root of the squared gradient's mean."""
    clip_norm: float = 1.0
    """Largest global gradient norm; longer gradients are scaled down to it."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise UserError(f"optim.warmup_steps is {self.warmup_steps}, it cannot be negative")
        if not self.learning_rate > 0:
            raise UserError(f"optim.learning_rate is {self.learning_rate}, it must be positive")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UserError("optim.beta1 and optim.beta2 must be at least 0 and below 1")
        if self.clip_norm <= 0:
            raise UserError(f"optim.clip_norm is {self.clip_norm}, it must be positive")


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Step -> rate, for a run of `steps` steps."""
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(steps - warmup, 1), alpha=0.1)
    else:
        after = optax.constant_schedule(peak)
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW on all parameters at the scheduled rate."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.eps,
            weight_decay=config.weight_decay,
        ),
    )
