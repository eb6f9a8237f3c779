"""What each `model.remat` costs in time and saves in memory: one training step, on this machine.

The policies take turns in one process, so that a machine's moods meet all of them; times are
medians over rounds. Memory is the compiled step's own figure for what it needs beside the state,
its arguments and its results.

    python benchmarks/remat.py --dtype float32
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tile import random_batch

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.flops import GridShape, grid_flops
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.shapes import GridBatch
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import IN_BATCH, place
from rbs_jax.train.state import init_state
from rbs_jax.train.step import make_step

POLICIES = ("none", "dots", "full")
MEGABYTE = 1e6


def compiled(config: TransformerConfig, batch: GridBatch) -> tuple[Callable[[], None], int]:
    """A training step to be run again and again, and its temporary memory [bytes]."""
    optim = OptimConfig()
    optimizer = make_optimizer(optim, steps=1000, updates_per_step=1)
    state: Any = jax.jit(lambda: init_state(RewardModel(jax.random.key(0), config), optimizer))()
    step = make_step(optimizer, ObjectiveConfig(), optim).lower(state, batch).compile()

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run, step.memory_analysis().temp_size_in_bytes


def main() -> None:
    """Print a line for each policy, and one last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--prefixes", type=int, default=8, help="and as many suffixes")
    parser.add_argument("--prefix-length", type=int, default=128, help="[tokens]")
    parser.add_argument("--suffix-length", type=int, default=128, help="[tokens]")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    shape = GridShape(args.prefixes, args.prefixes, args.prefix_length, args.suffix_length)
    config = TransformerConfig(
        width=args.width,
        mlp_width=3 * args.width,
        num_layers=args.layers,
        num_heads=args.width // 32,
        num_kv_heads=args.width // 32,
        dtype=args.dtype,
    )
    mesh = make_mesh(MeshConfig())
    steps, memory = {}, {}
    with jax.set_mesh(mesh):
        lengths = shape.prefix_length, shape.suffix_length
        batch = place(IN_BATCH, random_batch(shape.prefixes, lengths), mesh, 1)
        for policy in POLICIES:
            of_policy = dataclasses.replace(config, remat=policy)
            steps[policy], memory[policy] = compiled(of_policy, batch)
            steps[policy]()
        seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
        for _ in range(args.rounds):
            for policy, step in steps.items():
                began = time.perf_counter()
                step()
                seconds[policy].append(time.perf_counter() - began)
    useful = 3 * grid_flops(config, shape).total
    print(f"{jax.devices()[0].device_kind}, {args.dtype}, {shape}, {useful / 1e9:.0f} useful GFLOP")
    table = {}
    for policy in POLICIES:
        median = float(np.median(seconds[policy]))
        table[policy] = {
            "seconds": median,
            "time_ratio": median / float(np.median(seconds["none"])),
            "temporary_bytes": memory[policy],
            "memory_ratio": memory[policy] / memory["none"],
            "useful_flops_per_second": useful / median,
        }
        row = table[policy]
        print(
            f"{policy:5}  {median:6.3f} s ({row['time_ratio']:.2f}x)  temporary "
            f"{memory[policy] / MEGABYTE:6.0f} MB ({row['memory_ratio']:.2f}x)  "
            f"{row['useful_flops_per_second'] / 1e9:5.0f} useful GFLOP/s"
        )
    print(json.dumps({"dtype": args.dtype, "shape": shape._asdict(), "policies": table}))


if __name__ == "__main__":
    main()
