"""The tensors of a Hugging Face folder, one at a time; nothing pickled is ever opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from rbs_jax.errors import UserError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth")


class TensorFolder:
    """One or many safetensors files, by tensor."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError: no safetensors there, a file of the index missing or cut short."""
        self.folder = folder
        named = _indexed(folder / INDEX) if (folder / INDEX).is_file() else {}
        files = sorted(set(named.values())) if named else [SINGLE]
        absent = [file for file in files if not (folder / file).is_file()]
        if absent and not named:
            pickled = [path.name for pattern in PICKLED for path in folder.glob(pattern)]
            why = f"{pickled[0]} is a pickle and never loaded; " if pickled else ""
            raise UserError(f"{folder}: no {SINGLE} or {INDEX}; {why}save it as safetensors")
        problems = [f"{file} is missing" for file in absent]
        opened: dict[str, Any] = {}
        for file in sorted(set(files) - set(absent)):
            try:
                opened[file] = safe_open(str(folder / file), framework="np")
            except (SafetensorError, OSError) as error:
                problems.append(f"{file} cannot be read ({error}), it may be cut short")
        held = {file: set(handle.keys()) for file, handle in opened.items()}
        problems += [
            f"{file} lacks {name}"
            for name, file in named.items()
            if file in held and name not in held[file]
        ]
        if problems:
            raise UserError(f"{folder}: {'; '.join(problems)}")
        self._files = {name: opened[file] for file in held for name in held[file]}
        self._files |= {name: opened[file] for name, file in named.items()}

    def names(self) -> set[str]:
        """Of all tensors."""
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Of a tensor, as safetensors calls it: F32, BF16, I8."""
        return self._files[name].get_slice(name).get_dtype()

    def read(self, name: str) -> np.ndarray:
        """One tensor, in the dtype it has there."""
        return self._files[name].get_tensor(name)


def _indexed(path: Path) -> Mapping[str, str]:
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        paths = {Path(file) for file in named.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not an index of safetensors: {error!r}") from error
    if any(len(file.parts) != 1 for file in paths):
        raise UserError(f"{path}: names a file outside its folder")
    return named
