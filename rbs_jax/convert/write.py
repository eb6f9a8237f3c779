"""A model of ours as the config.json and safetensors of a Hugging Face folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from rbs_jax.convert.names import Tensor, tensors
from rbs_jax.convert.safetensors import INDEX, SINGLE
from rbs_jax.convert.weights import leaf_paths
from rbs_jax.errors import UserError
from rbs_jax.files import write_json
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import Model

SHARD_BYTES = 5_000_000_000
"""Tensors of one file, at most, unless a single one has more."""
Dtype = Literal["float32", "bfloat16", "float16"]
NUMPY: dict[str, Any] = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}


class _Planned(NamedTuple):
    """A file to write, and what goes into it."""

    file: str
    tensors: list[Tensor]


def write_weights(
    model: Model, config: TransformerConfig, rows: int, folder: Path, dtype: Dtype
) -> None:
    """Write a model's tensors, with an index where they need several files.

    The host holds one file's tensors at a time.

    Args:
      model: the parameters.
      config: its sizes.
      rows: of the vocabulary, at least the model's; new ones are zero.
      folder: where to.
      dtype: of the tensors.

    Raises:
      UserError: a value is too large for the dtype, or not a number.
    """
    leaves = dict(leaf_paths(model))
    wanted = list(tensors(set(leaves), config))
    width = np.dtype(NUMPY[dtype]).itemsize
    sizes = {t.name: int(np.prod(t.shape(config))) * width for t in wanted}
    plan = list(_planned(wanted, sizes))
    for file, own in plan:
        arrays = {t.name: _array(leaves[t.path], t, config, rows, dtype) for t in own}
        save_file(arrays, folder / file, metadata={"format": "pt"})
    if len(plan) > 1:
        named = {t.name: file for file, own in plan for t in own}
        total = {"total_size": sum(sizes.values())}
        write_json(folder / INDEX, {"metadata": total, "weight_map": named})


def _planned(wanted: list[Tensor], sizes: dict[str, int]) -> Iterator[_Planned]:
    files: list[list[Tensor]] = [[]]
    filled = 0
    for tensor in wanted:
        if files[-1] and filled + sizes[tensor.name] > SHARD_BYTES:
            files.append([])
            filled = 0
        files[-1].append(tensor)
        filled += sizes[tensor.name]
    for number, own in enumerate(files, start=1):
        several = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        yield _Planned(several if len(files) > 1 else SINGLE, own)


def _array(
    leaf: jax.Array, tensor: Tensor, config: TransformerConfig, rows: int, dtype: Dtype
) -> np.ndarray:
    """One tensor of theirs."""
    ours = np.asarray(leaf if tensor.layer is None else leaf[tensor.layer])
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(tensor.to_theirs(ours, config).astype(NUMPY[dtype]))
    if not np.isfinite(x).all():
        why = (
            f"that {dtype} cannot; give another --dtype"
            if np.isfinite(ours).all()
            else "not finite"
        )
        raise UserError(f"{tensor.name}: holds values {why}")
    if "V" in tensor.letters and rows > len(x):
        x = np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)])
    return x
