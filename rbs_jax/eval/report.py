"""Results as a person reads them: a table with its controls, and the learning curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from rbs_jax.eval.page import Table
from rbs_jax.train.heldout import MEASURES
from rbs_jax.train.metrics import read_metrics

LINES = (
    ("pairs", "pair_accuracy", "ci95", "n"),
    ("top-1", "top1", "top1_ci95", "prefixes"),
    ("by prefix", "instruction_accuracy", "instruction_ci95", "n"),
)
"""What the table shows of each measure: label, figure, its interval, its count."""


def heldout_table(
    figures: dict[str, Any], untrained: dict[str, Any] | None, controls: dict[str, Any]
) -> str:
    """The three figures, beside the untrained model and the controls.

    Of each, three lines: pair accuracy and top-1 among a prefix's suffixes, and pair accuracy
    among a suffix's prefixes. A line whose figure is below one of its controls says so.
    Intervals are 95%, by bootstrap over grids.
    """
    head = ("", "n", "trained", "95%", "untrained", *(c.replace("_", " ") for c in controls), "")
    rows = [head]
    before = untrained or {name: {} for name in MEASURES}
    for name in MEASURES:
        for label, key, interval, count in LINES:
            own = figures[name][key]
            beside = [control[name][key] for control in controls.values()]
            below = own is not None and any(c is not None and own < c for c in beside)
            rows.append(
                (
                    f"{name} {label}",
                    str(figures[name][count]),
                    number(own),
                    bounds(figures[name][interval]),
                    number(before[name].get(key)),  # none where an older version measured it
                    *(number(c) for c in beside),
                    "below control" if below else "",
                )
            )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def benchmark_table(result: Mapping[str, Any]) -> Table:
    """A benchmark's averages and subsets, each beside its controls, with a mark where it is inside.

    Intervals are 95%, by bootstrap over prompts.
    """
    figures = [*result["averages"].items(), *result["subsets"].items()]
    controls = list(figures[0][1]["controls"]) if figures else []
    head = ("", "n", "accuracy", "95%", *map(spaced, controls), "inside")
    rows = [
        (
            spaced(name),
            f"{each['n']:,}" if "n" in each else "",
            number(each["accuracy"]),
            bounds(each["ci95"]),
            *(number(each["controls"][control]) for control in controls),
            "inside" if each["inside_controls"] else "",
        )
        for name, each in figures
    ]
    return Table(rows, head)


def variance_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """The spread of rewards within prompts, and how they go with length there, by model."""
    rows = []
    for name, result in results.items():
        found, within = result["reward_variance"], result["length"]["correlation"]["within"]
        raw, whitened = found["raw"] or {}, found["whitened"] or {}
        shown = raw.get("mean"), whitened.get("mean"), whitened.get("p50"), within["spearman"]
        rows.append((name, f"{found['prompts']:,}", *map(number, shown)))
    head = ("reward variance in prompts", "prompts", "mean", "mean, whitened", "median, whitened")
    return Table(rows, (*head, "rank correlation with length"))


def spaced(name: str) -> str:
    """A key as a word."""
    return name.replace("_", " ")


def number(value: float | None) -> str:
    """A figure as it is shown; - where there is none."""
    return "-" if value is None else f"{value:.3f}"


def bounds(interval: Sequence[float] | None) -> str:
    """An interval as it is shown; - where there is none."""
    return "-" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def learning_curve(metrics: Path, png: Path) -> None:
    """Draw loss, pair accuracy and top-1 over training steps; each point is one batch.

    The line is a running mean over a tenth of the run.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = read_metrics(metrics)
    steps = [record["step"] for record in records]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, names in zip(axes, (("loss",), ("pair_accuracy", "top1")), strict=True):
        for name in names:
            values = np.array([record[name] for record in records], float)  # null: not finite
            window = max(len(values) // 10, 1)
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            (line,) = axis.plot(steps[window - 1 :], smooth, label=name.replace("_", " "))
            axis.plot(steps, values, ".", color=line.get_color(), alpha=0.3)
        axis.set_xlabel("step")
        axis.legend()
    axes[1].set_ylim(0, 1)
    figure.suptitle("training batches, before the update they cause")
    figure.savefig(png, dpi=120)
    pyplot.close(figure)
