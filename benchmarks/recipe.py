"""The choices of the recipe side by side: one small model, the same tokens, several seeds.

Trains a reward model on prepared textbooks for every row of docs/recipe.md, each
choice changed alone against the base, and prints that table: pair accuracy on
`test` with its 95% interval over grids, beside word overlap and the untrained
model. A finished run is not trained again, so the script can be stopped and
started. About 90 s a run on 2 CPU cores.

    python benchmarks/recipe.py --corpora corpora/textbooks --out runs/recipe --seeds 2
"""

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.train.heldout import MEASURES, HeldoutConfig
from rbs_jax.train.loop import train

STEPS, BLOCKS_PER_STEP = 200, 32
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "split random": {"split": {"breakpoint": "random"}},
    "split sentence": {"split": {"breakpoint": "sentence"}},
    "same document keep": {"grid": {"same_document": "keep"}},
    "same document seek": {"grid": {"same_document": "seek"}},
    "B = 16": {"grid": {"prefixes": 16, "grids_per_step": BLOCKS_PER_STEP // 16}},
    "B = 32": {"grid": {"prefixes": 32, "grids_per_step": BLOCKS_PER_STEP // 32}},
    "permuted positives": {"grid": {"permute_positives": True}},
}
"""What each row changes in the base: split fixed, same document mask, B = 8."""
ONE_SEED = ("B = 32", "permuted positives")
"""Rows that are not repeated: the one is slow, the other a check."""
UPDATES: dict[str, tuple[int | None, tuple[float, ...]]] = {
    "an update a grid": (None, (2.5e-4, 5e-4, 1e-3, 2e-3)),
    "an update a prefix": (1, (2.5e-4, 5e-4, 1e-3)),
}
"""`prefixes_per_update`, and the learning rates tried: seed 0, by in-batch accuracy on `valid`.
The first, at its best rate, is the base that every other row changes."""


def base(corpora: Path) -> Experiment:
    """Grids of 8, one update a step of 32 blocks, a sixteenth of an epoch."""
    return Experiment(
        data=DataConfig(
            train=(str(corpora / "train"),),
            valid=str(corpora / "valid"),
            test=str(corpora / "test"),
        ),
        split=SplitConfig(prefix_length=48, suffix_length=32, reach=16),
        grid=GridConfig(prefixes=8, grids_per_step=BLOCKS_PER_STEP // 8),
        model=TransformerConfig(vocab_size=8192, num_layers=2, dtype="float32", scan_layers=False),
        optim=OptimConfig(warmup_steps=20, schedule="cosine", weight_decay=0.1),
        train=TrainConfig(steps=STEPS, log_every=10, checkpoint_every=STEPS),
        heldout=HeldoutConfig(candidates=16, grids=32),
    )


def changed(experiment: Experiment, fields: dict[str, dict[str, Any]]) -> Experiment:
    """The experiment with some fields of its parts set anew."""
    parts = {name: getattr(experiment, name) for name in fields}
    return dataclasses.replace(
        experiment, **{name: dataclasses.replace(parts[name], **fields[name]) for name in fields}
    )


def run(experiment: Experiment, out: Path) -> dict[str, Any]:
    """The result of a run, trained now unless it is there."""
    if not (out / "result.json").is_file():
        print(f"\n{out}", flush=True)
        train(experiment, out)
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def tuned(start: Experiment, out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """For each kind of update, a row at the learning rate that does best on `valid`."""
    rows = {}
    for name, (prefixes, rates) in UPDATES.items():
        found = {}
        for rate in rates:
            fields = {"optim": {"prefixes_per_update": prefixes, "learning_rate": rate}}
            result = run(changed(start, fields), folder(out, f"{name}, rate {rate:g}", 0))
            found[rate] = result["valid"]["in_batch"]["pair_accuracy"]
            print(f"{name}, learning rate {rate:g}: valid in-batch {found[rate]:.3f}", flush=True)
        rate = max(found, key=lambda rate: found[rate])
        fields = {"optim": {"prefixes_per_update": prefixes, "learning_rate": rate}}
        rows[f"{name}, rate {rate:g}"] = fields
    return rows


def folder(out: Path, name: str, seed: int) -> Path:
    """Where a row's run of one seed lies."""
    return out / re.sub("[^a-z0-9.-]+", "_", f"{name} seed {seed}".lower())


def row(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds for each measure, the interval of the mean over grids, and the seeds' range.

    A run's interval is half a bootstrap's width; those of seeds, whose held-out
    grids are drawn apart, are combined as independent ones.
    """
    made = {}
    for measure in MEASURES:
        figures = [result["test"][measure] for result in results]
        accuracies = np.array([figure["pair_accuracy"] for figure in figures])
        halves = np.array([np.ptp(figure["ci95"]) / 2 for figure in figures])
        half = np.sqrt(np.square(halves).sum()) / len(halves)
        made[measure] = {
            "mean": accuracies.mean(),
            "ci95": [accuracies.mean() - half, accuracies.mean() + half],
            "seeds": accuracies.tolist(),
            "n": sum(figure["n"] for figure in figures),
            "untrained": np.mean([r["untrained"][measure]["pair_accuracy"] for r in results]),
            "word_overlap": np.mean(
                [r["controls"]["word_overlap"][measure]["pair_accuracy"] for r in results]
            ),
        }
    return made


def print_table(table: dict[str, dict[str, Any]]) -> None:
    """One line a row, in Markdown."""
    print("| | seeds | " + " | ".join(f"{m.replace('_', ' ')} | by seed" for m in MEASURES) + " |")
    print("|---" * (2 + 2 * len(MEASURES)) + "|")
    for name, made in table.items():
        cells = [name, str(len(made[MEASURES[0]]["seeds"]))]
        for measure in MEASURES:
            low, high = made[measure]["ci95"]
            cells.append(f"{made[measure]['mean']:.3f} [{low:.3f}, {high:.3f}]")
            cells.append(" ".join(f"{seed:.3f}" for seed in made[measure]["seeds"]))
        print("| " + " | ".join(cells) + " |")
    first = next(iter(table.values()))
    for control in ("untrained", "word_overlap"):
        values = [f"{first[measure][control]:.3f} | " for measure in MEASURES]
        print(f"| {control.replace('_', ' ')} | | " + " | ".join(values) + " |")


def main() -> None:
    """Train what is missing, print the table, and one last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=Path("corpora/textbooks"))
    parser.add_argument("--out", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    start = base(args.corpora)
    updates = tuned(start, args.out)
    start = changed(start, next(iter(updates.values())))
    choices = updates | CHOICES
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in choices}
    for seed in range(args.seeds):
        for name, fields in choices.items():
            if seed > 0 and name in ONE_SEED:
                continue
            experiment = dataclasses.replace(changed(start, fields), seed=seed)
            results[name].append(run(experiment, folder(args.out, name, seed)))
    table = {name: row(own) for name, own in results.items()}
    print_table(table)
    print(json.dumps({"table": table}))


if __name__ == "__main__":
    main()
