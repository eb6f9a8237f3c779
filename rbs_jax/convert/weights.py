"""Weights of a Hugging Face folder to a model of ours: strict, and straight to their devices."""

import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Int

from rbs_jax.convert.config import Described
from rbs_jax.convert.names import LANGUAGE_HEAD, REWARD_BIAS, REWARD_HEAD, Tensor, tensors
from rbs_jax.convert.safetensors import TensorFolder
from rbs_jax.errors import UserError
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import shape_of
from rbs_jax.sharding import weight_spec

DTYPES = ("F64", "F32", "BF16", "F16")
DROPPED = {
    LANGUAGE_HEAD: "a vocabulary head: a reward model has none, and tied embeddings are their own",
    REWARD_HEAD: "a reward head: a language model has none",
    REWARD_BIAS: "a reward head's bias: a language model has none",
    r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq": "computed from the config",
}
"""What may be left over, as patterns, and why."""

Leaves = dict[str, jax.Array]
"""Path of a leaf -> its array."""


def leaf_paths(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf of a model by its path, as in `.trunk.blocks.mlp.up`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path).removesuffix(".value"), leaf


def filled(like: Any, leaves: Mapping[str, jax.Array]) -> Any:
    """A model with these leaves, every one of which `like` must have, and it no other."""
    paths = [path for path, _ in leaf_paths(like)]
    assert set(paths) == set(leaves), f"leaves differ: {set(paths) ^ set(leaves)}"
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[path] for path in paths])


def head_offset(folder: Path, described: Described) -> float:
    """The bias of a folder's reward head; 0 where it has none.

    Raises:
      UserError: the folder's tensors cannot be read, or the bias is not one number.
    """
    if described.head != "TokenClassification":
        return described.config.head_offset
    files = TensorFolder(folder)
    if REWARD_BIAS not in files.names():
        return described.config.head_offset
    if files.shape(REWARD_BIAS) != (1,):
        raise UserError(f"{folder}: {REWARD_BIAS} has shape {files.shape(REWARD_BIAS)}, not (1,)")
    return float(files.read(REWARD_BIAS).astype(np.float32)[0])


def read_weights(
    folder: Path, described: Described, paths: set[str], may_lack: set[str], mesh: Mesh
) -> Leaves:
    """The leaves of a model that the folder holds, float32, each laid out on the mesh.

    A stacked leaf is filled layer by layer on its devices: the host never holds
    more than one tensor of theirs, and a device's part of it in float32.

    Args:
      folder: with safetensors.
      described: its config.json.
      paths: of the leaves wanted.
      may_lack: those of them that a fresh head may take the place of.
      mesh: where to.

    Raises:
      UserError: tensors are missing, left over, of a wrong shape or dtype: all at once.
    """
    files, config = TensorFolder(folder), described.config
    wanted = [
        tensor
        for tensor in tensors(paths, config)
        if tensor.path not in may_lack or tensor.name in files.names()
    ]
    left_over = files.names() - {tensor.name for tensor in wanted}
    if described.head == "TokenClassification" and REWARD_HEAD in {t.name for t in wanted}:
        left_over.discard(REWARD_BIAS)  # the model's offset
    _refuse(files, wanted, left_over, config)
    leaves: Leaves = {}
    for tensor in wanted:
        x = _on_devices(files.read(tensor.name), tensor, config, mesh)
        if tensor.layer is None:
            leaves[tensor.path] = x
        else:
            if tensor.layer == 0:
                leaves[tensor.path] = _empty("L" + tensor.letters, config, mesh)
            leaves[tensor.path] = _set_layer(leaves[tensor.path], x, jnp.int32(tensor.layer))
    return leaves


def _refuse(
    files: TensorFolder, wanted: list[Tensor], left_over: set[str], config: TransformerConfig
) -> None:
    there, has_head = files.names(), REWARD_HEAD in {tensor.name for tensor in wanted}
    dropped = {
        pattern: [name for name in sorted(left_over) if re.fullmatch(pattern, name)]
        for pattern in DROPPED
        if not (pattern == REWARD_BIAS and has_head)  # it would be part of every reward
    }
    problems = {
        "missing": [t.name for t in wanted if t.name not in there],
        "not of this model": sorted(left_over.difference(*dropped.values())),
    }
    for tensor in wanted:
        if tensor.name not in there:
            continue
        has, needs = files.shape(tensor.name), tensor.shape(config)
        if has != needs:
            problems.setdefault(f"of shape {has}, not {needs}", []).append(tensor.name)
        if files.dtype(tensor.name) not in DTYPES:
            kind = f"of dtype {files.dtype(tensor.name)}, not {', '.join(DTYPES)}"
            problems.setdefault(kind, []).append(tensor.name)
    said = [f"{why}: {', '.join(by_layers(names))}" for why, names in problems.items() if names]
    if said:
        raise UserError(f"{files.folder}: tensors {'; '.join(said)}")
    for pattern, names in dropped.items():
        if names:
            told = f"left out {', '.join(by_layers(names))} ({DROPPED[pattern]})"
            print(f"rbs: {files.folder}: {told}", file=sys.stderr)


def by_layers(names: list[str]) -> list[str]:
    """Names with the same tensor of several layers in one, as `model.layers.[0, 2].x`."""
    layers: dict[str, list[str]] = {}
    for name in names:
        found = re.match(r"(.*\blayers\.)(\d+)(\..*)", name)
        key, layer = (f"{found[1]}[{{}}]{found[3]}", found[2]) if found else (name, "")
        layers.setdefault(key, []).append(layer)
    return [
        key.replace("{}", ", ".join(sorted(own, key=int))) if "{}" in key else key
        for key, own in layers.items()
    ]


def _on_devices(x: np.ndarray, tensor: Tensor, config: TransformerConfig, mesh: Mesh) -> jax.Array:
    """A tensor of theirs in our layout; each device is given its own part, in float32."""
    ours = tensor.to_ours(x, config)

    def part(index: Any) -> np.ndarray:
        return np.ascontiguousarray(ours[index], np.float32)

    sharding = NamedSharding(mesh, weight_spec(tensor.letters))
    return jax.make_array_from_callback(ours.shape, sharding, part)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _empty(letters: str, config: TransformerConfig, mesh: Mesh) -> jax.Array:
    shape = shape_of(letters, config)
    return jnp.zeros(shape, jnp.float32, out_sharding=NamedSharding(mesh, weight_spec(letters)))


@partial(jax.jit, donate_argnums=0)
def _set_layer(stacked: jax.Array, x: jax.Array, layer: Int[jax.Array, ""]) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(stacked, x, layer, axis=0)
