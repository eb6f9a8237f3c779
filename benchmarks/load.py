"""Host memory while a Hugging Face folder is loaded, beside reading it whole.

Writes a random model in bfloat16, several files, to a temporary folder, then loads it in
a process of its own: as `rbs` does, tensor by tensor, and the simple way, all files into
host arrays and then to the device. Prints the peak of the process's own memory (without
the mapped files' pages, which the kernel may take back) over what the loaded model needs.
On CPU the device's memory is the host's, so the model itself (float32) is in both.

    python benchmarks/load.py --layers 12
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file
from turns import Peak

from rbs_jax.convert import config as hf_config
from rbs_jax.convert.names import tensors
from rbs_jax.convert.safetensors import INDEX
from rbs_jax.convert.weights import filled, leaf_paths, read_weights
from rbs_jax.files import write_json
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import shapes_of
from rbs_jax.model.language import LanguageModel
from rbs_jax.sharding import MeshConfig, make_mesh

CONFIG = TransformerConfig(
    vocab_size=64_000, width=2048, mlp_width=5632, num_heads=16, num_kv_heads=4, head_dim=128
)
MEGABYTE = 1e6


def make_folder(folder: Path, config: TransformerConfig) -> None:
    """A random model, a file a layer and one for the rest."""
    with jax.set_mesh(make_mesh(MeshConfig())):
        paths = {path for path, _ in leaf_paths(shapes_of(LanguageModel, config))}
    chance, named = np.random.default_rng(0), {}
    files: dict[int | None, dict[str, np.ndarray]] = {}
    for tensor in tensors(paths, config):
        drawn = chance.standard_normal(tensor.shape(config), np.float32)
        files.setdefault(tensor.layer, {})[tensor.name] = drawn.astype(ml_dtypes.bfloat16)
    for number, arrays in enumerate(files.values()):
        name = f"model-{number:05d}.safetensors"
        save_file(arrays, folder / name)
        named |= dict.fromkeys(arrays, name)
    write_json(folder / INDEX, {"metadata": {}, "weight_map": named})
    write_json(folder / "config.json", hf_config.config_json(config, "CausalLM", "bfloat16", {}))


def load(folder: Path, way: str) -> dict[str, float]:
    """Load the folder one way; peak over the loaded model, the model and the seconds."""
    mesh, described = make_mesh(MeshConfig()), hf_config.read_config(folder)
    with jax.set_mesh(mesh):
        like = shapes_of(LanguageModel, described.config)
        paths = {path for path, _ in leaf_paths(like)}
        began = time.perf_counter()
        with Peak(every=0.002) as peak:
            if way == "tensor by tensor":
                leaves = read_weights(folder, described, paths, set(), mesh)
            else:
                leaves = _all_at_once(folder, described.config, paths)
            jax.block_until_ready(filled(like, leaves))
        size = sum(x.nbytes for x in leaves.values())
    seconds = time.perf_counter() - began
    return {"over": peak.bytes - peak.start - size, "model": size, "seconds": seconds}


def _all_at_once(folder: Path, config: TransformerConfig, paths: set[str]) -> dict[str, jax.Array]:
    arrays = {}
    for file in sorted(folder.glob("*.safetensors")):
        arrays |= {name: x.astype(np.float32) for name, x in load_file(file).items()}
    parts: dict[str, list[np.ndarray]] = {}
    for tensor in tensors(paths, config):
        parts.setdefault(tensor.path, []).append(tensor.to_ours(arrays[tensor.name], config))
    stacked = {p: np.stack(own) if ".blocks" in p else own[0] for p, own in parts.items()}
    return {path: jax.device_put(x) for path, x in stacked.items()}


def main() -> None:
    """Print a line for each way, and one last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12, help="layers of the model")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(load(args.folder, args.way)))
        return
    config = dataclasses.replace(CONFIG, num_layers=args.layers)
    largest = config.vocab_size * config.width * 4
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), config)
        results = {}
        for way in ("tensor by tensor", "all at once"):
            program = [sys.executable, __file__, "--folder", folder, "--way", way]
            said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
            results[way] = made = json.loads(said.splitlines()[-1])
            print(
                f"{way:16}  model {made['model'] / MEGABYTE:6.0f} MB, peak over it "
                f"{made['over'] / MEGABYTE:6.0f} MB, largest tensor {largest / MEGABYTE:.0f} MB, "
                f"{made['seconds']:.1f} s"
            )
    ours, simple = (results[way] for way in ("tensor by tensor", "all at once"))
    ratios = {
        "over_largest_tensor": ours["over"] / largest,
        "over_model": ours["over"] / ours["model"],
        "simple_over_model": simple["over"] / simple["model"],
    }
    print(json.dumps({"layers": args.layers, **ratios}))


if __name__ == "__main__":
    main()
