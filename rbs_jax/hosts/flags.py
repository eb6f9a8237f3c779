"""The compiler flags that matter and are not on by themselves, each with its reason.

A flag that the compiler does not know ends the process, and one that is its default says nothing,
so this table is short: what was tried, and what came of it, is in launch/README.md.
"""

from collections.abc import MutableMapping
from typing import NamedTuple


class Flag(NamedTuple):
    """A compiler flag, and what it is for."""

    name: str
    value: str
    reason: str


TPU: tuple[Flag, ...] = ()
"""None: libtpu 0.0.42.1 makes the same program of our step with the usual flags and without."""
GPU = (
    Flag(
        "xla_gpu_enable_latency_hiding_scheduler",
        "true",
        "Collectives start early and run beside products: else fsdp waits for every gather. JAX's "
        "guide to GPUs recommends it, jaxlib 0.10.2 has it off. Not measured: no two GPUs at hand.",
    ),
)
VARIABLES = (("LIBTPU_INIT_ARGS", TPU), ("XLA_FLAGS", GPU))
"""Where the compilers look for flags; the one of another platform reads over them."""


def set_flags(environ: MutableMapping[str, str]) -> None:
    """Add the flags to an environment, all but those that it has, whatever their values.

    Must run before JAX starts a backend, which reads them once.

    Args:
      environ: as os.environ; changed in place.
    """
    for variable, flags in VARIABLES:
        given = environ.get(variable, "").split()
        names = {flag.removeprefix("--").partition("=")[0] for flag in given}
        added = [f"--{flag.name}={flag.value}" for flag in flags if flag.name not in names]
        if added:
            environ[variable] = " ".join([*given, *added])
