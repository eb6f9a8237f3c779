"""What a run on Google Cloud's TPUs rents: the options of `launch/tpu.py --print-commands`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import tyro

from rbs_jax.cli import parse
from rbs_jax.cli import parsed as options
from rbs_jax.errors import UserError

PLANE = (1, 4, 8, 16, 32, 64, 128, 256)
"""Chips of the slices of v5e and v6e."""
FORMS = {
    "name": (
        "[a-z]([a-z0-9-]{0,48}[a-z0-9])?",
        "small letters, digits and -, at most 50, as run-1",
    ),
    "zone": (r"[a-z]+(-[a-z]+)+\d+-[a-z]", "a zone, as us-west4-a"),
    "bucket": (
        r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[\w.=-]+)*",
        "gs://BUCKET or gs://BUCKET/FOLDER",
    ),
    "project": ("[a-z][a-z0-9.:-]+", "a project's id"),
    "runtime": ("[a-z][a-z0-9.-]+", "a TPU VM's image, as v2-alpha-tpuv6e"),
    "repo": (r"[^-\s]\S*", "what git clones"),
}
"""What must match, and what to say if it does not."""


class Kind(NamedTuple):
    """Slices of one kind of chip."""

    runtime: str
    """The image of a TPU VM that Google names for it, for JAX."""
    largest: int
    """Of the numbers behind the kind's name."""
    cores: int
    """A chip's, where that number counts cores; else 1."""


KINDS = {
    "v4": Kind("tpu-ubuntu2204-base", 8192, 2),
    "v5litepod": Kind("v2-alpha-tpuv5-lite", 256, 1),
    "v5p": Kind("v2-alpha-tpuv5", 12288, 2),
    "v6e": Kind("v2-alpha-tpuv6e", 256, 1),
}
"""By the name that an accelerator type begins with; runtimes as named in
https://docs.cloud.google.com/tpu/docs/runtimes, to be looked up there if gcloud refuses one."""


@dataclass(frozen=True)
class Rented:
    """What is rented, and what is brought along."""

    name: str
    """Of the queued resource, the run and its folder in the bucket."""
    zone: str
    """Where, as in us-west4-a; the bucket is made in its region."""
    type: str
    """Of each slice: v5litepod-16, v6e-64, v5p-32, v4-32. v4 and v5p count cores, two a chip."""
    slices: int = 1
    """How many such slices."""
    project: str | None = None
    """To be charged; gcloud's own unless told."""
    bucket: str | None = None
    """For checkpoints and the compilation cache: gs://BUCKET or gs://BUCKET/FOLDER."""
    spot: bool = False
    """Cheaper, and may be taken away at any time."""
    runtime: str | None = None
    """The TPU VMs' image, if not the one that is known for the type."""
    repo: str | None = None
    """A git URL that every worker clones; unless told, this checkout's files are copied."""
    carry: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A folder in this checkout that every worker needs too, as backbones/llama32_1b, through the
    bucket; may be given again."""

    @property
    def chips(self) -> int:
        """Of all slices."""
        kind, _, size = self.type.partition("-")
        return self.slices * int(size) // KINDS[kind].cores


def parsed(argv: Sequence[str]) -> tuple[Rented, list[str]]:
    """What to rent, and the subcommand to run there.

    Raises:
      UserError: an option or the subcommand is wrong.
    """
    args = [arg for arg in argv if arg != "--print-commands"]
    if "--" not in args[:-1]:
        raise UserError("--print-commands: give the run behind --, as in -- train CONFIG")
    end = args.index("--")
    rented = options(Rented, args[:end], "launch/tpu.py --print-commands")
    check(rented)
    parse(args[end + 1 :])  # a slip is cheaper here than there
    return rented, args[end + 1 :]


def check(rented: Rented) -> None:
    """See that names have their forms.

    Raises:
      UserError: one has not.
    """
    kind, _, size = rented.type.partition("-")
    if kind not in KINDS or not size.isdecimal():
        raise UserError(f"--type {rented.type}: give {'-N, '.join(KINDS)}-N")
    plane = KINDS[kind].cores == 1
    fits = int(size) in PLANE if plane else int(size) % 8 == 0 and int(size) > 0
    if not fits or int(size) > KINDS[kind].largest:
        sizes = ", ".join(map(str, PLANE)) if plane else f"8, 16, ... {KINDS[kind].largest}"
        raise UserError(f"--type {rented.type}: N of {kind}-N is one of {sizes}")
    for field, (form, wanted) in FORMS.items():
        value = getattr(rented, field)
        if value is not None and not re.fullmatch(form, value):
            raise UserError(f"--{field} {value}: give {wanted}")
    if not 1 <= rented.slices <= 256:
        raise UserError(f"--slices {rented.slices}: give 1 to 256")
    for folder in rented.carry:
        if rented.bucket is None or folder.startswith(("/", "-")) or ".." in folder.split("/"):
            raise UserError(f"--carry {folder}: give a folder in this checkout, and --bucket")
