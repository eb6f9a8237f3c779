"""The folder of an output that is being made, which the same command goes on from.

OUT.partial/part-000017-0123456789abcdef.jsonl
    the lines of a batch, its number, and a digest of what decides them

A part is there whole or not at all. Process 0 alone reads and writes them; the others are told.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from rbs_jax.errors import UserError
from rbs_jax.files import locked, make_folder, taken_back, writing
from rbs_jax.hosts.together import is_first
from rbs_jax.remote import is_remote
from rbs_jax.storage import names_in, open_file, put_text, read_text, remove, upload

PART = re.compile(r"part-\d{6,}-[0-9a-f]{16}\.jsonl")
UNFINISHED = ".partial"
"""How the name of a part ends while it is written."""


class Parts:
    """The parts of one output, in order."""

    def __init__(self, out: str, there: set[str]) -> None:
        """`there` names the parts of earlier commands, in process 0."""
        self._out, self._folder = out, folder_of(out)
        self._there, self._own = there, list[str]()

    def read(self, digest: str, ahead: int = 0) -> str | None:
        """The next part as it was written before; None where it is not there.

        Args:
          digest: of what decides the part, 16 hexadecimal digits.
          ahead: so many parts after the next.

        Raises:
          Unreachable: the bucket does not answer.
        """
        name = self._name(digest, ahead)
        return read_text(f"{self._folder}/{name}") if name in self._there else None

    def write(self, digest: str, text: str) -> None:
        """Make this the next part.

        Raises:
          UserError: it cannot be written.
        """
        if is_first():
            with writing(self._out):
                put_text(text, f"{self._folder}/{self._name(digest)}")
        self.keep(digest)

    def keep(self, digest: str) -> None:
        """Take what was read for the next part."""
        self._own.append(self._name(digest))

    def _name(self, digest: str, ahead: int = 0) -> str:
        return f"part-{len(self._own) + ahead:06}-{digest}.jsonl"

    @property
    def count(self) -> int:
        """Of the parts that are there for this output."""
        return len(self._own)

    def join(self) -> None:
        """Make them the output, whole or not at all.

        Raises:
          UserError: it cannot be written.
        """
        local = None if is_remote(self._out) else self._folder
        with (
            writing(self._out),
            tempfile.TemporaryDirectory(dir=local, suffix=UNFINISHED) as folder,
        ):
            file = Path(folder) / "joined"
            with file.open("wb") as joined:
                for name in self._own:
                    with open_file(f"{self._folder}/{name}") as part:
                        shutil.copyfileobj(part, joined)
            if local is None:
                upload(file, self._out)
            else:
                file.replace(self._out)


def folder_of(out: str) -> str:
    """Where an output's parts are."""
    return f"{out}.partial"


@contextmanager
def begun(out: str) -> Iterator[Parts]:
    """The parts of an output, joined at the end; left for the next command if any is finished.

    Raises:
      UserError: it cannot be written, as far as that can be known before the work; its folder
        holds other things; or another process is at work there.
    """
    folder = folder_of(out)
    parts = Parts(out, _there(out) if is_first() else set())  # one that goes meanwhile is no part
    with taken_back(Path(folder).parent), _alone(out):
        try:
            yield parts
            if is_first():
                parts.join()
        except BaseException as error:
            if is_first() and not parts.count:
                with suppress(OSError, UserError):
                    _remove_unless_begun(folder)
            if isinstance(error, UserError) and parts.count:
                said = f"{error}; what is done stays in {folder}, the same command goes on"
                raise type(error)(said) from error
            raise
        if is_first():
            with writing(folder):
                remove(folder)


def _alone(out: str) -> AbstractContextManager[None]:
    """No two commands of a machine at work on one local output."""
    if not is_first():
        return nullcontext()
    with writing(out):
        if is_remote(out):  # whether it can be written shows only when something is
            probe = f"{folder_of(out)}/probe{UNFINISHED}"
            put_text("", probe)
            remove(probe)
            return nullcontext()
        folder = Path(folder_of(out))
        make_folder(folder)
    return locked(folder, f"{folder}: another rbs command is at work there")


def _there(out: str) -> set[str]:
    folder = folder_of(out)
    with writing(out):
        names = names_in(folder)
    foreign = [name for name in names if not PART.fullmatch(name) and UNFINISHED not in name]
    if foreign:
        raise UserError(
            f"{folder}: holds {foreign[0]}, which is no part of an output; give another --out"
        )
    return set(filter(PART.fullmatch, names))


def _remove_unless_begun(folder: str) -> None:
    """What another model or another file has begun stays."""
    if not any(map(PART.fullmatch, names_in(folder))):
        remove(folder)
