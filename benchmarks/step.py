"""A whole train step, ours beside the alternatives: same weights, texts, loss, threads and dtype.

The programs, each in a process of its own, take turns within a round:

    ours       what `rbs train` runs: every prefix encoded once for all suffixes
    unshared   ours without that: every suffix after every prefix is a text of its own
    trl        the installed TRL RewardTrainer's compute_loss on every pair of texts
    released   the schedule of the paper's released code, in PyTorch: the true text encoded
               anew for each negative, an update for each prefix

All do Bradley-Terry with centering, backward, clip and AdamW, on random ids of fixed length;
their first losses and gradient norms must agree before anything is timed. Batch sizes are the
fastest found. Prints for each the medians, memory, and how many times longer it takes than
ours, beside how many times more FLOPs it needs. On a GPU a program has it to itself, and all
its rounds run in a row.

    python benchmarks/step.py
    python benchmarks/step.py --shape 8,128,128 --dtype float32 --programs ours trl --rounds 3
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from step_task import First, Shape, Task, forward_flops
from turns import Absent, Program

from rbs_jax.model.backbones import LLAMA32_1B
from rbs_jax.model.config import TransformerConfig

PROGRAMS = {
    "ours": ("step_ours", "Shared"),
    "unshared": ("step_ours", "Alone"),
    "trl": ("step_torch", "Trl"),
    "released": ("step_torch", "Released"),
}
SMALL = TransformerConfig(
    width=256,
    mlp_width=768,
    num_layers=4,
    num_heads=4,
    num_kv_heads=4,
    head_dim=64,
    scan_layers=False,
)
"""On a CPU."""
CPU_SHAPES = [Shape(8, 128, 128), Shape(8, 384, 128), Shape(32, 64, 64)]
DEVICE_SHAPES = [Shape(32, 512, 1024), Shape(32, 1024, 512)]
CLOSE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest relative difference of losses and gradient norms from ours."""
ALLOCATOR = (
    "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0"
    ":glibc.malloc.trim_threshold=34359738368"
)
"""Large pages that are kept from step to step, as the Makefile sets them, unless the environment
says otherwise."""
MEGA, GIGA = 1e6, 1e9
OF_OURS = ("ours", "unshared")
"""Programs that leave out what no score needs of the last layer."""


@dataclasses.dataclass
class Measured:
    """What was seen of a program."""

    size: int | None
    """Pairs, or prefixes, at a time; None where there was nothing to choose."""
    first: First
    seconds: list[float] = dataclasses.field(default_factory=list)
    """Of each round's step."""
    memory: float = 0.0
    """The most during a step, over that of the bare process; or on the device [bytes]."""
    matmul: float = 0.0
    """Products of large square matrices [FLOP/s]."""

    @property
    def median(self) -> float:
        """Of the rounds [s]."""
        return statistics.median(self.seconds)


def step_flops(name: str, model: TransformerConfig, shape: Shape, pruned: bool = False) -> float:
    """FLOPs of a program's step, forward and backward; `pruned`: as far as a score needs them."""
    count, prefix, suffix = shape
    of_prefix, of_suffix = ("keys", "read") if pruned else ("whole", "whole")
    if name == "ours":
        shared = forward_flops(model, count, prefix, last=of_prefix)
        return 3 * (shared + forward_flops(model, count**2, suffix, prefix, last=of_suffix))
    texts = count**2 if name == "unshared" else 2 * shape.pairs
    return 3 * forward_flops(model, texts, prefix + suffix, last=of_suffix)


def step_tokens(name: str, shape: Shape) -> int:
    """Tokens that a program runs in a step."""
    count, prefix, suffix = shape
    if name == "ours":
        return count * prefix + count**2 * suffix
    return (count**2 if name == "unshared" else 2 * shape.pairs) * (prefix + suffix)


def measure(task: Task, names: list[str], rounds: int, together: bool) -> dict[str, Measured | str]:
    """Run the programs; what was seen of each, or why it did not run.

    Args:
      task: their step.
      names: of the programs, ours first.
      rounds: steps of each that are timed.
      together: whether they take turns, or each runs all its rounds alone.
    """
    results: dict[str, Measured | str] = {}
    for group in [names] if together else [[name] for name in names]:
        with ExitStack() as open_programs:
            running: dict[str, Program] = {}
            for name in group:
                try:
                    program = open_programs.enter_context(Program(*PROGRAMS[name], task))
                    size = program.ask("choose")
                    if size is not None and not together:  # what it tried is in its peak
                        program.close()
                        program = open_programs.enter_context(Program(*PROGRAMS[name], task))
                    results[name] = made = Measured(size, program.ask("first", size))
                except Absent as error:
                    results[name] = str(error)
                    continue
                running[name] = program
                check(name, made.first, results["ours"], task.dtype)
            for _ in range(rounds):
                for name, program in running.items():
                    seconds, memory = program.ask("step")
                    results[name].seconds.append(seconds)
                    results[name].memory = max(results[name].memory, memory)
            for name, program in running.items():
                results[name].matmul = program.ask("matmul")
    return results


def check(name: str, first: First, ours: Measured | str, dtype: str) -> None:
    """Ends the run where a program does not compute what ours does."""
    if isinstance(ours, str):
        sys.exit(f"ours: {ours}")
    for what, own, theirs in zip(First._fields, ours.first, first, strict=True):
        if theirs is not None and abs(own - theirs) > CLOSE[dtype] * abs(own):
            sys.exit(f"{what} of the first step differ: ours {own}, {name} {theirs}")


def figures(task: Task, results: dict[str, Measured | str]) -> dict[str, Any]:
    """What the table and the JSON line say of one shape and dtype."""
    model, shape = task.model, task.shape
    ran = {name: made for name, made in results.items() if isinstance(made, Measured)}
    ours, matmul = ran["ours"], max(made.matmul for made in ran.values())
    programs = {}
    for name, made in ran.items():
        flops, useful = (step_flops(name, model, shape, name in OF_OURS and p) for p in (0, 1))
        rounds = [theirs / own for theirs, own in zip(made.seconds, ours.seconds, strict=True)]
        programs[name] = {
            "at_a_time": made.size,
            "loss": made.first.loss,
            "gradient": made.first.gradient,
            "seconds": made.median,
            "pairs_per_second": shape.pairs / made.median,
            "tokens": step_tokens(name, shape),
            "memory_bytes": made.memory,
            "flops_per_second": useful / made.median,
            "of_matmul": useful / made.median / matmul,
            "flop_ratio": flops / step_flops("ours", model, shape),
            "flop_ratio_pruned": useful / step_flops("ours", model, shape, pruned=True),
            "time_ratio": made.median / ours.median,
            "time_ratio_of_rounds": [min(rounds), max(rounds)],
        }
    absent = {name: made for name, made in results.items() if isinstance(made, str)}
    return {"matmul_flops_per_second": matmul, "programs": programs, "absent": absent}


COLUMNS = (
    f"{'program':9} {'at once':>7} {'s a step':>9} {'pairs/s':>8} {'tokens':>8} {'MB':>7} "
    f"{'GFLOP/s':>8} {'of peak':>7} {'FLOPs':>6} {'pruned':>6} {'time':>6}  of rounds"
)


def print_table(task: Task, said: dict[str, Any]) -> None:
    """A line for each program, and why a time ratio is not the FLOP ratio."""
    print(
        f"\n{task.dtype}, {task.shape.prefixes} prefixes of {task.shape.prefix} tokens, "
        f"suffixes of {task.shape.suffix}; large matrix products "
        f"{said['matmul_flops_per_second'] / GIGA:.0f} GFLOP/s\n{COLUMNS}"
    )
    for name, made in said["programs"].items():
        low, high = made["time_ratio_of_rounds"]
        print(
            f"{name:9} {made['at_a_time'] or '':>7} {made['seconds']:9.3f} "
            f"{made['pairs_per_second']:8.1f} {made['tokens']:8d} "
            f"{made['memory_bytes'] / MEGA:7.0f} {made['flops_per_second'] / GIGA:8.1f} "
            f"{made['of_matmul']:7.2f} {made['flop_ratio']:6.2f} {made['flop_ratio_pruned']:6.2f} "
            f"{made['time_ratio']:6.2f}  {low:.2f}-{high:.2f}"
        )
    for name, why in said["absent"].items():
        print(f"{name:9} {why}")
    for name, made in said["programs"].items():
        if name == "ours":
            continue
        pruned = made["flop_ratio_pruned"] / made["flop_ratio"]
        rate = made["time_ratio"] / made["flop_ratio_pruned"]
        print(
            f"{name}: time {made['time_ratio']:.2f} = FLOPs {made['flop_ratio']:.2f} "
            f"x pruning the last layer {pruned:.2f} x FLOPs a second, ours over its, {rate:.2f}"
        )
    losses = ", ".join(f"{name} {made['loss']:.6f}" for name, made in said["programs"].items())
    norms = (made["gradient"] for made in said["programs"].values())
    print(
        f"losses of the first step: {losses}; gradient norms: "
        + ", ".join(f"{norm:.6f}" for norm in norms if norm is not None),
        flush=True,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shapes, device_shapes = (" ".join(map(str, own)) for own in (CPU_SHAPES, DEVICE_SHAPES))
    parser.add_argument(
        "--shape",
        action="append",
        type=lambda text: Shape(*map(int, text.split(","))),
        metavar="B,L1,L2",
        help="prefixes of a grid, tokens of a prefix, tokens of a suffix; may be repeated "
        f"(default: {shapes}; on a GPU {device_shapes})",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=CLOSE,
        help="of matrix products; weights are float32 (default: both; on a GPU bfloat16)",
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=PROGRAMS,
        default=list(PROGRAMS),
        help="what to run beside ours (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each (default: 3)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="processors used (default: all)"
    )
    parser.add_argument(
        "--remat",
        choices=["none", "dots", "full"],
        help="what our backward pass recomputes (default: none; on a GPU full)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and texts (default: 0)")
    return parser.parse_args()


def main() -> None:
    """Print a table for each dtype and shape, and one last line of JSON."""
    args = parse()
    os.environ.setdefault("GLIBC_TUNABLES", ALLOCATOR)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Program("step_ours", "Backend") as backend:
            device = backend.ask("describe")
            is_cpu = device["platform"] == "cpu"
            model = SMALL if is_cpu else LLAMA32_1B
            model = dataclasses.replace(model, remat=args.remat or model.remat)
            backend.ask("write_weights", model, folder, args.seed)
        about = {
            "device": device,
            "rounds": args.rounds,
            "threads": args.threads,
            "GLIBC_TUNABLES": os.environ["GLIBC_TUNABLES"],
            "load_before": os.getloadavg()[0],
        }
        print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
        results: dict[str, Any] = {}
        names = ["ours", *(name for name in args.programs if name != "ours")]
        for dtype in args.dtype or (CLOSE if is_cpu else ["bfloat16"]):
            results[dtype] = {}
            for shape in args.shape or (CPU_SHAPES if is_cpu else DEVICE_SHAPES):
                sized = dataclasses.replace(model, dtype=dtype)
                task = Task(shape, sized, folder, args.threads, args.seed)
                seen = measure(task, names, args.rounds, together=is_cpu)
                results[dtype][str(shape)] = said = figures(task, seen)
                print_table(task, said)
    print(json.dumps(about | {"results": results}))


if __name__ == "__main__":
    main()
