"""Responses scored a second: ours beside transformers' batched classifier, on the same folder.

Ours is the path of `rbs score`, which encodes a prompt once for all its responses; theirs takes
each prompt and response as one text, in the batch size that is fastest (sdpa, inference mode).
Both are given strings, and tokenise them in what is timed. The third is all that `rbs bon` does
on the same candidates in a process that has run before: it reads file and model, scores, with five
random heads beside, and measures every curve. They take turns, each in a process of its own. A
made-up tokenizer makes every character a token. Needs the whole package, torch and transformers.

    python benchmarks/score.py
    python benchmarks/score.py --prompts 4 --dtype bfloat16
"""

import argparse
import dataclasses
import json
import os
import statistics
import string
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from step import ALLOCATOR, GIGA, SMALL
from step_task import forward_flops
from turns import Program, fastest, take_threads

from rbs_jax.model.backbones import LLAMA32_1B
from rbs_jax.model.config import TransformerConfig

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128]
"""Texts at a time that are tried."""
CLOSE = {"float32": 1e-3, "bfloat16": 0.2}
"""Largest difference of two scores of a text, in standard deviations of all scores."""
Texts = list[tuple[str, list[str]]]
"""Prompts, each with its responses."""


class Folder:
    """Writes a random model and its tokenizer as a Hugging Face folder."""

    def __init__(self, folder: Path, model: TransformerConfig, seed: int) -> None:
        import jax

        from rbs_jax.convert.config import config_json
        from rbs_jax.convert.write import write_weights
        from rbs_jax.data.tokens import train_tokens
        from rbs_jax.files import write_json
        from rbs_jax.model.kinds import fresh
        from rbs_jax.model.reward import RewardModel
        from rbs_jax.sharding import MeshConfig, make_mesh

        tokens = train_tokens([string.printable], vocab_size=258)  # bytes, and no merges
        tokens.save(folder)
        ids = {"pad_token_id": tokens.id_of("pad_token"), "eos_token_id": tokens.end_id}
        fields = config_json(model, "SequenceClassification", model.dtype, ids)
        write_json(folder / "config.json", fields)
        with jax.set_mesh(make_mesh(MeshConfig())):
            fresh_model = fresh(RewardModel, seed, model)
            write_weights(fresh_model, model, model.vocab_size, folder, model.dtype)


class Ours:
    """The scorer of `rbs score`."""

    def __init__(self, folder: Path, texts: Texts, threads: int) -> None:
        take_threads(threads)
        from rbs_jax import Scorer

        self._scorer = Scorer(str(folder))
        self._prompts = [prompt for prompt, _ in texts]
        self._responses = [responses for _, responses in texts]

    def first(self) -> tuple[int | None, list[float | None]]:
        """How many texts at a time, where that is chosen, and the scores."""
        return None, self._scores()

    def _scores(self) -> list[float | None]:
        own = self._scorer.score(self._prompts, self._responses)
        return [score for scores in own for score in scores]

    def step(self) -> float:
        """Seconds of scoring all texts."""
        began = time.perf_counter()
        self._scores()
        return time.perf_counter() - began


class BestOfN:
    """The function of `rbs bon`, from the file of candidates to the files of results."""

    def __init__(self, folder: Path, texts: Texts, threads: int) -> None:
        take_threads(threads)
        from rbs_jax.eval.best_of_n import best_of_n

        self._best_of_n, self._folder = best_of_n, str(folder)
        self._file = folder / "candidates.jsonl"
        lines = [
            {"prompt": prompt, "responses": own, "correct": [n % 3 == 0 for n in range(len(own))]}
            for prompt, own in texts
        ]
        self._file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def first(self) -> tuple[int | None, list[float | None]]:
        """As `Ours.first`."""
        with tempfile.TemporaryDirectory() as out:
            self._best_of_n(self._folder, str(self._file), out)
            lines = (Path(out) / "scores.jsonl").read_text().splitlines()
        return None, [score for line in lines for score in json.loads(line)["scores"]]

    def step(self) -> float:
        """Seconds of all of it; a new folder, so that nothing is kept."""
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            self._best_of_n(self._folder, str(self._file), out)
            return time.perf_counter() - began


class Transformers:
    """AutoTokenizer and AutoModelForSequenceClassification, batch by batch."""

    def __init__(self, folder: Path, texts: Texts, threads: int) -> None:
        take_threads(threads)
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch, self._device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype="auto", attn_implementation="sdpa"
        )
        self._model.to(self._device).eval()
        self._texts = [prompt + response for prompt, own in texts for response in own]

    def first(self) -> tuple[int, list[float]]:
        """The batch size that is fastest, and the scores."""

        def seconds_each(size: int) -> float | None:
            part = self._texts[: max(size, 8)]
            try:
                self._scores(part, size)
                began = time.perf_counter()
                self._scores(part, size)
            except self._torch.cuda.OutOfMemoryError:
                return None
            return (time.perf_counter() - began) / len(part)

        sizes = [size for size in BATCHES if size <= len(self._texts)]
        self._size = fastest(sizes, seconds_each)
        return self._size, self._scores(self._texts, self._size)

    def _scores(self, texts: list[str], size: int) -> list[float]:
        scores: list[float] = []
        with self._torch.inference_mode():
            for at in range(0, len(texts), size):
                batch = self._tokenizer(texts[at : at + size], return_tensors="pt", padding=True)
                scores += self._model(**batch.to(self._device)).logits[:, 0].float().tolist()
        return scores

    def step(self) -> float:
        """Seconds of scoring all texts."""
        began = time.perf_counter()
        self._scores(self._texts, self._size)
        return time.perf_counter() - began


def made_up(args: argparse.Namespace) -> Texts:
    """Random letters, so many to a text."""
    chance = np.random.default_rng(args.seed)
    letters = list(string.ascii_letters)

    def text(length: int) -> str:
        return "".join(chance.choice(letters, size=length))

    return [
        (text(args.prompt), [text(args.response) for _ in range(args.n)])
        for _ in range(args.prompts)
    ]


def measure(folder: Path, model: TransformerConfig, args: argparse.Namespace) -> dict[str, Any]:
    """Both programs in turns, and what they come to.

    Raises:
      Absent: a library is not installed.
    """
    with Program("score", "Folder", folder, model, args.seed):
        pass
    texts = made_up(args)
    sides = {"ours": "Ours", "rbs bon": "BestOfN", "transformers": "Transformers"}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    sizes, scores = {}, {}
    with ExitStack() as programs:
        running = {
            name: programs.enter_context(Program("score", kind, folder, texts, args.threads))
            for name, kind in sides.items()
        }
        for name, program in running.items():
            sizes[name], given = program.ask("first")
            scores[name] = np.array(given, np.float64)
        theirs = scores["transformers"]
        apart = max(float(np.abs(own - theirs).max()) for own in scores.values())
        if not apart <= CLOSE[model.dtype] * theirs.std():
            sys.exit(f"scores differ by {apart}, their standard deviation is {theirs.std()}")
        for _ in range(args.rounds):
            for name, program in running.items():
                seconds[name].append(program.ask("step"))
    count = args.n * args.prompts
    alone = count * forward_flops(model, 1, args.prompt + args.response)
    shared = args.prompts * forward_flops(model, 1, args.prompt)
    shared += count * forward_flops(model, 1, args.response, args.prompt)
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    ratios = {
        name: [b / a for a, b in zip(own, seconds["transformers"], strict=True)]
        for name, own in seconds.items()
    }
    return {
        "responses_per_second": {name: count / median for name, median in medians.items()},
        "flops_per_second": {
            "ours": shared / medians["ours"],
            "transformers": alone / medians["transformers"],
        },
        "texts_at_a_time": sizes["transformers"],
        "flop_ratio": alone / shared,
        "time_ratio": medians["transformers"] / medians["ours"],
        "time_ratio_of_rounds": [min(ratios["ours"]), max(ratios["ours"])],
        "bon_time_ratio": medians["transformers"] / medians["rbs bon"],
        "bon_time_ratio_of_rounds": [min(ratios["rbs bon"]), max(ratios["rbs bon"])],
        "largest_difference": apart,
        "standard_deviation": float(theirs.std()),
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {
        "n": (32, "responses to a prompt"),
        "prompt": (512, "length of a prompt [tokens]"),
        "response": (128, "length of a response [tokens]"),
        "prompts": (12, "prompts scored in a round"),
        "rounds": (5, "timed runs of each"),
        "threads": (os.cpu_count(), "processors used"),
        "seed": (0, "of weights and texts"),
    }
    for name, (default, what) in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=CLOSE,
        help="of weights and products (default: both; on a GPU bfloat16)",
    )
    return parser.parse_args()


def main() -> None:
    """Print some lines for each dtype, and one last line of JSON."""
    args = parse()
    os.environ.setdefault("GLIBC_TUNABLES", ALLOCATOR)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # both are on the device
    with Program("step_ours", "Backend") as backend:
        device = backend.ask("describe")
    is_cpu = device["platform"] == "cpu"
    about = {
        "device": device,
        **{name: value for name, value in vars(args).items() if name != "dtype"},
        "GLIBC_TUNABLES": os.environ["GLIBC_TUNABLES"],
        "load_before": os.getloadavg()[0],
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    results = {}
    for dtype in args.dtype or (CLOSE if is_cpu else ["bfloat16"]):
        model = dataclasses.replace(SMALL if is_cpu else LLAMA32_1B, dtype=dtype)
        with tempfile.TemporaryDirectory() as folder:
            results[dtype] = said = measure(Path(folder), model, args)
        print(
            f"\n{dtype}: {args.prompts} prompts of {args.prompt} tokens, each with "
            f"{args.n} responses of {args.response}"
        )
        for name, rate in said["responses_per_second"].items():
            flops = said["flops_per_second"].get(name)
            speed = "" if flops is None else f", {flops / GIGA:.1f} GFLOP/s"
            size = f", {said['texts_at_a_time']} at a time" if name == "transformers" else ""
            print(f"{name:12} {rate:8.1f} responses/s{speed}{size}")
        low, high = said["time_ratio_of_rounds"]
        rate = said["time_ratio"] / said["flop_ratio"]
        print(
            f"time {said['time_ratio']:.2f} (rounds {low:.2f}-{high:.2f}) = FLOPs "
            f"{said['flop_ratio']:.2f} x FLOPs a second, ours over theirs, {rate:.2f}\n"
            f"all of rbs bon: time {said['bon_time_ratio']:.2f} "
            f"(rounds {said['bon_time_ratio_of_rounds'][0]:.2f}-"
            f"{said['bon_time_ratio_of_rounds'][1]:.2f})\n"
            f"scores differ by {said['largest_difference']:.2g} at most; their standard "
            f"deviation is {said['standard_deviation']:.2g}",
            flush=True,
        )
    print(json.dumps(about | {"results": results}))


if __name__ == "__main__":
    main()
