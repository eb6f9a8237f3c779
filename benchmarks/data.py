"""Preparing and reading text: ours beside Hugging Face datasets, and how much memory ours takes.

Preparing: `rbs prepare`, and `datasets`' two batched maps and save_to_disk, with the same files,
tokenizer, block length and number of processes; the tokenizer's library alone is the floor. They
take turns, each run a program of its own with an empty cache; their numbers of tokens must agree.
Reading: the trainer's stream of shuffled blocks, beside what a pod can consume. Memory: the peak
of all processes of `rbs prepare`, for files of two sizes and every kind.

    python benchmarks/data.py
    python benchmarks/data.py --source texts/*.jsonl --tokenizer backbones/llama32_1b
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from data_task import MEGABYTE, documents, learn_tokenizer, write
from turns import Watched, watched

POD_BLOCKS = 12.6
"""Blocks of 1536 a second that a 1B model on v5e:4x4 takes at most: docs/plan.md, "Shown"."""
POD_HOSTS = 4
"""Of its 16 chips. Each reads its own grids; where a step is a single grid, as in
configs/llama32_1b.py, each reads all of it."""
PREFIXES = 32
"""Blocks of a grid, as in configs/llama32_1b.py."""
SIDES = ("ours", "datasets", "tokenizer")
KINDS = {
    "jsonl": "keep",
    "jsonl.gz": "keep",
    "parquet": "keep",
    "jsonl.gz, near duplicates": "near",
}
"""What memory is measured of: the files' kind, and `--duplicates`."""


class Runs:
    """Programs of data_sides.py, each in a folder of its own."""

    def __init__(self, folder: Path, tokenizer: Path, args: argparse.Namespace) -> None:
        from rbs_jax.data.tokens import load_tokens

        self._folder, self._count = folder, 0
        self._task = {
            "tokenizer": str(tokenizer),
            "end_id": load_tokens(tokenizer).end_id,
            "block_length": args.block_length,
            "processes": args.processes,
            "duplicates": "keep",
            "seed": args.seed,
        }
        self._environment = {
            "RAYON_NUM_THREADS": str(args.processes),
            "HF_HUB_OFFLINE": "1",
            "JAX_PLATFORMS": "cpu",
        }

    def __call__(self, side: str, **task: Any) -> tuple[Watched, str]:
        """What a program costs, and the corpus it made, if it makes one."""
        self._count += 1
        out = str(self._folder / f"{self._count}-{side}")
        file = Path(f"{out}.json")
        file.write_text(json.dumps(self._task | {"out": out} | task))
        command = [sys.executable, str(Path(__file__).with_name("data_sides.py")), side, str(file)]
        return watched(command, self._environment), out


def preparing(runs: Runs, files: list[str], args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """All sides in turns, what they come to, and a corpus of ours."""
    seen: dict[str, list[Watched]] = {side: [] for side in SIDES}
    absent, corpus = {}, ""
    for _ in range(args.rounds):
        for side in SIDES:
            if side in absent:
                continue
            cost, out = runs(side, files=files)
            if "absent" in cost.said:
                absent[side] = cost.said["absent"]
                del seen[side]
                continue
            seen[side].append(cost)
            corpus = out if side == "ours" else corpus
    tokens = {side: own[0].said["tokens"] for side, own in seen.items()}
    if len(set(tokens.values())) > 1:
        sys.exit(f"numbers of tokens differ: {tokens}")
    size = seen["tokenizer"][0].said["text_bytes"] / MEGABYTE
    results: dict[str, Any] = {
        "text_megabytes": size,
        "tokens": tokens["ours"],
        "blocks": {side: own[0].said.get("blocks") for side, own in seen.items()},
        "absent": absent,
        "sides": {
            side: _medians(own, size, tokens["ours"], args.processes) for side, own in seen.items()
        },
    }
    for other in [side for side in seen if side != "ours"]:
        results[f"{other}_over_ours"] = _ratios(seen[other], seen["ours"])
    return results, corpus


def _medians(own: list[Watched], size: float, tokens: int, processes: int) -> dict[str, float]:
    whole = statistics.median(cost.seconds for cost in own)
    work = statistics.median(cost.said["seconds"] for cost in own)
    return {
        "megabytes_per_second": size / whole,
        "megabytes_per_second_of_work": size / work,
        "tokens_per_second_per_process": tokens / work / processes,
        "processor_seconds": statistics.median(cost.processor_seconds for cost in own),
        "peak_megabytes": statistics.median(cost.peak_bytes for cost in own) / MEGABYTE,
    }


def _ratios(theirs: list[Watched], ours: list[Watched]) -> dict[str, Any]:
    """How many times longer theirs takes, by median and in single rounds."""
    ways = {
        "time": lambda cost: cost.seconds,
        "work": lambda cost: cost.said["seconds"],
        "processor": lambda cost: cost.processor_seconds,
    }
    found: dict[str, Any] = {}
    for way, of in ways.items():
        each = [of(one) / of(other) for one, other in zip(theirs, ours, strict=True)]
        found[f"{way}_ratio"] = statistics.median(map(of, theirs)) / statistics.median(
            map(of, ours)
        )
        found[f"{way}_ratio_of_rounds"] = [min(each), max(each)]
    return found


def reading(runs: Runs, corpus: str, blocks: int, args: argparse.Namespace) -> dict[str, Any]:
    """Blocks a second of the trainer's stream, beside the pod's."""
    prefixes = min(PREFIXES, blocks)
    rates = []
    for _ in range(args.rounds):
        cost, _ = runs("reading", corpus=corpus, prefixes=prefixes, steps=args.steps)
        rates.append(cost.said["blocks"] / cost.said["seconds"])
    rate = statistics.median(rates)
    return {
        "blocks_per_second": rate,
        "blocks_per_second_of_rounds": [min(rates), max(rates)],
        "over_pod_host": rate / (POD_BLOCKS / POD_HOSTS),
        "over_whole_pod": rate / POD_BLOCKS,
    }


def memory(runs: Runs, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Peaks of `rbs prepare` [bytes], and the largest file's over the smallest's."""
    results: dict[str, Any] = {}
    for name, duplicates in KINDS.items():
        peaks = {}
        for size in args.memory:
            own = folder / f"{name}-{size}"
            texts = documents(size, args.seed + 1)
            files = write(texts, name.split(",")[0], own, 1, size)
            cost, _ = runs("ours", files=files, duplicates=duplicates)
            peaks[size] = cost.peak_bytes
            shutil.rmtree(own)
        small, large = min(peaks), max(peaks)
        results[name] = {"peak_bytes": peaks, "ratio": peaks[large] / peaks[small]}
    return results


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", nargs="+", help="files with a field text (default: made up)")
    parser.add_argument(
        "--tokenizer", type=Path, help="a folder with tokenizer.json (default: learnt)"
    )
    numbers = {
        "megabytes": (64.0, "made-up text, in a file for each process [MB]"),
        "processes": (os.cpu_count() or 1, "worker processes"),
        "block-length": (1536, "ids of a block [tokens]"),
        "rounds": (3, "timed runs of each"),
        "steps": (200, f"steps read, each of {PREFIXES} blocks"),
        "seed": (0, "of texts and order"),
    }
    for name, (default, what) in numbers.items():
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--memory",
        nargs="+",
        type=float,
        default=[32.0, 128.0],
        help="made-up text that peaks of memory are measured with [MB] (default: 32 128)",
    )
    return parser.parse_args()


def show_preparing(said: dict[str, Any], args: argparse.Namespace) -> None:
    """A line for each side, and how they compare."""
    print(
        f"\npreparing {said['text_megabytes']:.1f} MB of text, {said['tokens']} tokens, "
        f"{args.processes} processes\n"
        f"{'':10} {'MB/s':>7} {'without start-up':>17} {'tokens/s a process':>19} "
        f"{'processor s':>12} {'peak MB':>8}"
    )
    for side, own in said["sides"].items():
        print(
            f"{side:10} {own['megabytes_per_second']:7.2f} "
            f"{own['megabytes_per_second_of_work']:17.2f} "
            f"{own['tokens_per_second_per_process']:19.0f} {own['processor_seconds']:12.1f} "
            f"{own['peak_megabytes']:8.0f}"
        )
    for side, why in said["absent"].items():
        print(f"{side:10} {why}")
    for side in said["sides"]:
        if side != "ours":
            ratios = said[f"{side}_over_ours"]
            low, high = ratios["time_ratio_of_rounds"]
            print(
                f"{side} over ours: time {ratios['time_ratio']:.2f} (rounds {low:.2f}-{high:.2f}), "
                f"without start-up {ratios['work_ratio']:.2f}, "
                f"processor seconds {ratios['processor_ratio']:.2f}"
            )


def main() -> None:
    """Print a table for each part, and one last line of JSON."""
    args = parse()
    about = {
        name: value for name, value in vars(args).items() if name not in ("source", "tokenizer")
    }
    about |= {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    about |= {"texts": "given" if args.source else "made up"}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, tokenizer = args.source, args.tokenizer
        if files is None:
            texts = documents(args.megabytes, args.seed)
            files = write(texts, "jsonl", folder / "source", args.processes, args.megabytes)
        if tokenizer is None:
            tokenizer = learn_tokenizer(folder / "tokenizer", args.seed)
        runs = Runs(folder, tokenizer, args)
        results = {}
        results["preparing"], corpus = preparing(runs, files, args)
        show_preparing(results["preparing"], args)
        blocks = results["preparing"]["blocks"]["ours"]
        results["reading"] = said = reading(runs, corpus, blocks, args)
        print(
            f"\nreading {said['blocks_per_second']:.0f} blocks/s, "
            f"{said['over_pod_host']:.0f} times a host's share of what the pod takes, "
            f"{said['over_whole_pod']:.0f} times all of it"
        )
        results["memory"] = memory(runs, folder, args)
        print("\npeak MB of rbs prepare for MB of text")
        for name, own in results["memory"].items():
            peaks = ", ".join(
                f"{size}: {b / MEGABYTE:.0f}" for size, b in own["peak_bytes"].items()
            )
            print(f"{name:25} {peaks}, ratio {own['ratio']:.2f}")
    print(json.dumps(about | {"results": results}))


if __name__ == "__main__":
    main()
