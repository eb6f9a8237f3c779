"""The folder of a result: result.json, and the scores of every item beside it."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rbs_jax.errors import UserError
from rbs_jax.files import json_text, writing
from rbs_jax.hosts.together import is_first
from rbs_jax.remote import is_remote
from rbs_jax.storage import exists, put, put_text, read_text, remove
from rbs_jax.train.folder import CHECKPOINTS

RESULT, SCORES = "result.json", "scores.jsonl"
LAYOUTS = tuple(f"{name}{kind}" for name in ("eval-set", "pref-sets") for kind in ("", "-scores"))
"""Folders of RewardBench's own files."""


def refuse_other_result(out: str, has: str = "suite", lacks: str | None = None) -> None:
    """A result of the same command may be written anew, anything else not.

    Args:
      out: the folder, a path or URL.
      has: a field that this command's results have.
      lacks: one that they have not; None for none.

    Raises:
      UserError: `out` holds a run, or a result of another kind.
    """
    if exists(f"{out}/{CHECKPOINTS}"):
        raise UserError(f"{out}: holds a run with a result of its own; give another --out")
    path = f"{out}/{RESULT}"
    try:
        text = read_text(path)
        there = {has: None} if text is None else json.loads(text)
    except ValueError:  # not JSON, nor then a result of ours
        there = None
    if not isinstance(there, dict) or has not in there or lacks in there:
        raise UserError(f"{path}: is no result of this command; give another --out")


def refuse_unwritable_folder(out: str) -> None:
    """Find out before long work that a folder could not be written; leaves nothing.

    Raises:
      UserError: it could not.
    """
    with writing(out):
        if is_remote(out):
            put_text("", f"{out}/probe.partial")
            remove(f"{out}/probe.partial")
            return
        with tempfile.TemporaryDirectory(dir=_nearest(out), suffix=".partial"):
            return


def _nearest(out: str) -> Path:
    """The folder, or the one of those above it that is there."""
    return next(folder for folder in (Path(out), *Path(out).parents) if folder.exists())


def write_result(
    out: str,
    result: Mapping[str, Any],
    items: Iterable[Mapping[str, Any]] | None = None,
    others: Mapping[str, str] | None = None,
) -> None:
    """Write what process 0 has found, result.json last; other processes write nothing.

    A result that is there stays until all of the new one is written beside it.

    Args:
      out: the folder, a path or URL.
      result: what result.json holds.
      items: the lines of scores.jsonl; None for none.
      others: the texts of more files, by name.

    Raises:
      UserError: a file cannot be written.
    """
    if not is_first():
        return
    texts = dict(others or {})
    if items is not None:
        texts[SCORES] = "".join(json.dumps(item) + "\n" for item in items)
    texts[RESULT] = json_text(dict(result))
    local = None if is_remote(out) else _nearest(out)
    with writing(out), tempfile.TemporaryDirectory(dir=local, suffix=".partial") as beside:
        for name, text in texts.items():
            file = Path(beside) / name
            with writing(f"{out}/{name}"):
                file.parent.mkdir(exist_ok=True)
                file.write_text(text, encoding="utf-8")
        # First what tells of the others, which belong to another suite or model.
        for stale in (RESULT, SCORES, *LAYOUTS):
            remove(f"{out}/{stale}")
        for name in texts:
            put(Path(beside) / name, f"{out}/{name}")
