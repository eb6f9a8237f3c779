"""A typed value from a user's python file."""

import contextlib
import runpy
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from rbs_jax.errors import UserError

Value = TypeVar("Value")


def load_value(path: Path, name: str, kind: type[Value]) -> Value:
    """The value of a given name in a python file, which may import the files beside it.

    Raises:
      UserError: no such file, the file fails, or it defines no such value.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such config file")
    try:
        with _siblings_of(path):
            value = runpy.run_path(str(path)).get(name)
    except (Exception, SystemExit) as error:  # whatever the user's file raises is theirs to mend
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None)  # a SyntaxError's own
        where = f"{path}:{line}" if line else f"{path}"
        message = " ".join(str(error).split())
        raise UserError(f"{where}: {type(error).__name__}: {message}") from error
    if not isinstance(value, kind):
        raise UserError(f"{path}: defines no `{name} = {kind.__name__}(...)`")
    return value


@contextlib.contextmanager
def _siblings_of(path: Path) -> Iterator[None]:
    """Lets a file import those beside it; none stays, so another folder's may have its name."""
    folder, search, loaded = path.resolve().parent, sys.path[:], set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = search
        for name in set(sys.modules) - loaded:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == folder:
                del sys.modules[name]
