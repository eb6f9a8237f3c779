"""A pod that is not here: its chips as libtpu describes them, to compile for and never to run."""

import importlib.util
import math
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from rbs_jax.errors import UserError
from rbs_jax.plan.chips import CHIPS, Chip

SLICES = 256
"""More than anyone has joined; a slip of the finger should not look for their divisors."""
FORM = "give CHIP:AxB, or AxBxC of a v5p, and N* before it for N slices, as in 2*v5e:4x4"
LOG = tempfile.TemporaryDirectory(prefix="rbs-plan-", ignore_cleanup_errors=True)
"""Where this process's libtpu logs, until it ends."""


class Pod(NamedTuple):
    """Slices of chips of one kind."""

    name: str
    """The chip's: v5e."""
    shape: tuple[int, ...]
    """Of a slice [chips along each axis]."""
    slices: int

    @property
    def chip(self) -> Chip:
        """What each of its chips can do."""
        return CHIPS[self.name]

    @property
    def chips(self) -> int:
        """Of all slices."""
        return self.slices * math.prod(self.shape)

    @property
    def topology(self) -> str:
        """One slice, as libtpu names it."""
        return f"{self.name}:{'x'.join(map(str, self.shape))}"

    def __str__(self) -> str:
        return self.topology if self.slices == 1 else f"{self.slices}*{self.topology}"

    def devices(self) -> list[jax.Device]:
        """Its chips; libtpu is loaded where it is not yet.

        Raises:
          UserError: libtpu is not installed, or knows no such slice.
        """
        load_libtpu()
        # A host has 4 chips, as most machine types do; a smaller slice has one host.
        bounds = [*self.shape, *[1] * (3 - len(self.shape))] if math.prod(self.shape) < 4 else None
        options: dict[str, Any] = {"num_slices": self.slices} if self.slices > 1 else {}
        options |= {"chips_per_host_bounds": bounds} if bounds else {}
        try:
            described = topologies.get_topology_desc(self.topology, "tpu", **options)
        except jax.errors.JaxRuntimeError as error:
            kind, _, reason = str(error).partition(": ")
            if kind != "INVALID_ARGUMENT":
                raise
            raise UserError(f"--topology {self}: libtpu knows no such slice: {reason}") from error
        return list(described.devices)


def parse_pod(text: str) -> Pod:
    """The pod that a --topology names.

    Raises:
      UserError: it has another form, or there are no such chips or slices.
    """
    found = re.fullmatch(r"(?:(\d+)\*)?(\w+):(\d+(?:x\d+)*)", text.strip())
    if found is None:
        raise UserError(f"--topology {text}: {FORM}")
    slices, name = int(found[1] or 1), found[2]
    if name not in CHIPS:
        raise UserError(f"--topology {text}: no chip {name} is known here, only {', '.join(CHIPS)}")
    shape = tuple(map(int, found[3].split("x")))
    chip = CHIPS[name]
    if len(shape) != chip.axes:
        raise UserError(f"--topology {text}: a slice of {name} has {chip.axes} axes; {FORM}")
    if not 1 <= math.prod(shape) <= chip.largest or not 1 <= slices <= SLICES:
        raise UserError(
            f"--topology {text}: a slice of {name} has 1 to {chip.largest} chips, and there is at "
            f"least one slice, {SLICES} at most; {FORM}"
        )
    return Pod(name, shape, slices)


@cache
def load_libtpu() -> Path:
    """Has libtpu describe chips, not look for them, and log to a folder, which is returned.

    What its compiler warns of is in the log alone. Both must be set before it is loaded.

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "rbs plan compiles with libtpu, which is not installed: pip install 'rbs_jax[tpu]'"
        )
    # Beside libtpu, JAX would take this machine for a TPU's host, and complain of it.
    jax.config.update("jax_platforms", "cpu")
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",  # else it asks the cloud what machine this is
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-16",  # it complains of none; the topology counts
        "TPU_MIN_LOG_LEVEL": "0",  # so that there is a log for sure
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # chips have one user, descriptions many
        "TPU_LOG_DIR": LOG.name,
    }
    return Path(LOG.name)
