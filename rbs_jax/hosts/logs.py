"""Every process's own log file; process 0's words go to the terminal too."""

import os
import sys
from pathlib import Path
from typing import TextIO

from rbs_jax.files import make_folder, writing


def log_to(path: Path, shows: bool) -> None:
    """From here on, append what this process says to a file.

    Args:
      path: the file.
      shows: whether it goes to the terminal too; if not, that of libraries in C++ goes to the
        file as well.

    Raises:
      UserError: the file cannot be written.
    """
    make_folder(path.parent)
    with writing(path):
        file = path.open("a", encoding="utf-8", buffering=1)
    if shows:
        sys.stdout, sys.stderr = _Both(sys.stdout, file), _Both(sys.stderr, file)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)


def note(text: str) -> None:
    """Write to this process's log alone, where it has one."""
    stream = sys.stderr
    (stream.file if isinstance(stream, _Both) else stream).write(text)


class _Both:
    """A terminal's stream that is written to a file too, but for the steps of progress bars."""

    def __init__(self, terminal: TextIO, file: TextIO) -> None:
        self._terminal, self.file = terminal, file

    def write(self, text: str) -> int:
        """As streams do."""
        if "\r" not in text:
            self.file.write(text)
        return self._terminal.write(text)

    def flush(self) -> None:
        """As streams do."""
        self.file.flush()
        self._terminal.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._terminal, name)
