"""Files that are whole or not there."""

import json
import os
from pathlib import Path
from typing import Any

from rbs_jax.errors import UserError


def make_folder(folder: Path) -> None:
    """A folder for results, with its parents.

    Raises:
      UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot make this folder: {error.strerror}") from error


def write_atomic(path: Path, text: str) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """An indented JSON file, whole or not at all."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
