"""How candidates are drawn."""

import dataclasses
import math
from typing import Literal

from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How a server's model answers prompts, and how it is asked."""

    actor: str | None = None
    """The model as the server names it; None for the only one that it lists."""
    n: int = 32
    """Candidates a prompt; candidate k is the same whatever their number."""
    temperature: float = 1.0
    """0 takes the likeliest token always, so that all candidates are the same."""
    top_p: float = 1.0
    """Of the probability, from the likeliest token on, that is drawn from; 1 is all."""
    max_tokens: int = 512
    """Of one candidate at most [tokens]."""
    seed: int = 0
    """Of the candidates' own seeds, as far as the server heeds them."""
    endpoint: Literal["chat", "completions"] = "chat"
    """chat: the server applies the actor's chat template, a string is one message of the user's;
    completions: a string goes as it is."""
    at_once: int = 32
    """Requests under way at most, each for one candidate."""
    timeout: float = 600.0
    """From a request to its answer's first piece, and from each piece to the next [seconds]; most
    servers send it in one."""

    def __post_init__(self) -> None:
        for name in ("n", "max_tokens", "at_once"):
            if getattr(self, name) < 1:
                raise UserError(f"sampling.{name} is {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"sampling.temperature is {self.temperature}, it cannot be negative")
        if not 0 < self.top_p <= 1:
            raise UserError(f"sampling.top_p is {self.top_p}, it must be above 0 and at most 1")
        if not 0 < self.timeout < math.inf:
            raise UserError(f"sampling.timeout is {self.timeout}, it must be above 0")
