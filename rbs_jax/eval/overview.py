"""`rbs report`: any number of results and runs on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from rbs_jax.eval.compare import Picked, Result, Run, compare, read_folders
from rbs_jax.eval.page import Note, Part, Plot, Section, Table, as_html, as_text
from rbs_jax.eval.picked import picked_sections
from rbs_jax.eval.report import benchmark_table, bounds, number, spaced, variance_table
from rbs_jax.files import refuse_existing, whole_folder, write_atomic, write_json
from rbs_jax.statistics.beside import CHANCE
from rbs_jax.suites.table import SUITES

MARKS = {
    "chance": "|",
    "longer": ">",
    "shorter": "<",
    "word_overlap": "s",
    "random_head": "x",
    "log_likelihood": "v",
    "log_likelihood_mean": "^",
    "log_likelihood_minus_unconditional": "d",
}
"""How a plot draws each control."""


def report(folders: Sequence[str], out: Path) -> str:
    """Write OUT/report.html, and OUT/result.json with the comparisons; returns the page as text.

    Args:
      folders: what `rbs eval`, `bon`, `combine` and `train` wrote, paths or URLs.
      out: a folder to write, which must not exist.

    Raises:
      UserError: a folder holds neither, a file is broken, or `out` exists or cannot be written.
    """
    refuse_existing(out)
    results, picked, runs = read_folders([folder.rstrip("/") for folder in folders])
    comparisons = compare(results)
    page = sections(results, picked, runs, comparisons)
    with whole_folder(out) as beside:
        folders = list(folders)
        write_json(beside / "result.json", {"folders": folders, "comparisons": comparisons})
        write_atomic(beside / "report.html", as_html("Reward models", page))
    return as_text("Reward models", page)


def sections(
    results: Sequence[Result],
    picked: Sequence[Picked],
    runs: Sequence[Run],
    comparisons: Sequence[Mapping[str, Any]],
) -> list[Section]:
    """The page: all headlines first, then suite by suite, then best of N, then the runs."""
    by_suite: dict[str, list[Result]] = {}
    for result in results:
        by_suite.setdefault(result.fields["suite"], []).append(result)
    rows = [_headline(result) for result in results]
    rows += [_headline_of_picks(each) for each in picked if each.fields["rm"] is not None]
    page = [Section("Headlines", _headlines(rows))] if rows else []
    for suite, own in by_suite.items():
        page.append(Section(suite, _suite(own)))
    if comparisons:
        page.append(Section("Models against each other", _comparisons(comparisons)))
    page += picked_sections(picked)
    return page + [Section(f"Run {run.name}", _run(run)) for run in runs]


def _headline(result: Result) -> tuple[str, ...]:
    fields = result.fields
    said = f"{fields['suite']}, {result.name}", f"{fields['n']:,}"
    figure = {name: fields.get(name) for name in ("accuracy", "ci95", "controls")}
    return *said, *_beside_best(**figure, inside=fields.get("inside_controls"))


def _headline_of_picks(picked: Picked) -> tuple[str, ...]:
    """With as many candidates as any prompt has."""
    fields = picked.fields
    said = f"best of {fields['n'][-1]:,}, {picked.name}", f"{fields['prompts'][-1]:,}"
    controls = {name: own[-1] for name, own in fields["controls"].items()}
    controls[CHANCE] = fields["random"][-1]
    last = fields["rm"][-1], fields["rm_ci95"][-1], controls, fields["inside_controls"][-1]
    return *said, *_beside_best(*last)


def _beside_best(
    accuracy: float | None,
    ci95: Sequence[float] | None,
    controls: Mapping[str, float | None] | None,
    inside: Sequence[str] | None,
) -> tuple[str, ...]:
    there = {name: value for name, value in (controls or {}).items() if value is not None}
    best = max(there, key=there.__getitem__, default=None)
    return (
        number(accuracy),
        bounds(ci95),
        "-" if best is None else f"{spaced(best)} {there[best]:.3f}",
        number(there.get(CHANCE)),
        "-" if inside is None else ", ".join(map(spaced, inside)) or "none",
    )


def _headlines(rows: Sequence[tuple[str, ...]]) -> list[Part]:
    said = (
        "Intervals are 95%, by bootstrap over prompts. A score is inside a control where the "
        "interval of its difference from that control, over the same prompts, does not lie above "
        "0: it shows nothing that the control does not."
    )
    head = ("", "n", "accuracy", "95%", "best control", "chance", "inside")
    return [Note(said), Table(rows, head)]


def _suite(results: Sequence[Result]) -> list[Part]:
    suite = results[0].fields["suite"]
    parts: list[Part] = [Note(f"{SUITES[suite].about}.")] if suite in SUITES else []
    judged = [result for result in results if result.fields["accuracy"] is not None]
    if judged:
        parts.append(_forest(judged))
    for result in judged:
        if "averages" in result.fields:
            parts += [Note(_about(result)), benchmark_table(result.fields)]
    measured = [result for result in results if "length" in result.fields]
    if any(result.fields["calibration"]["n"] for result in measured):
        parts += [_lengths(measured), _calibrations(measured), _reliability(measured)]
    if measured:
        parts.append(variance_table({result.name: result.fields for result in measured}))
    return parts


def _about(result: Result) -> str:
    fields = result.fields
    said = (
        f"{result.name}: {fields['data']}, {fields['n']:,} items of {fields['prompts']:,} prompts, "
        f"form {fields['template']['form']}, context {fields['max_length']:,} tokens, "
        f"{fields['dtype']}; random heads on {fields['random_heads_on']}"
    )
    if fields["language_model"]:
        said += f"; likelihoods by {fields['language_model']}"
    if fields["unscored"]:
        said += f"; {fields['unscored']:,} responses exceed the context and lose"
    return said + "."


def _forest(results: Sequence[Result]) -> Plot:
    """Each model's accuracy with its interval, and its controls on the same line."""

    def draw(axes: Axes) -> None:
        for y, result in enumerate(reversed(results)):
            fields = result.fields
            low, high = fields["ci95"] or [fields["accuracy"]] * 2
            axes.plot([low, high], [y, y], color="C0", linewidth=2)
            axes.plot(fields["accuracy"], y, "o", color="C0", label="model")
            for name, value in fields["controls"].items():
                if value is not None:
                    axes.plot(value, y, MARKS.get(name, "."), color="C1", label=spaced(name))
        axes.set_yticks(range(len(results)), [r.name for r in reversed(results)])
        axes.set_ylim(-0.6, len(results) - 0.4)
        axes.set_xlabel("accuracy")
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        axes.legend(once.values(), once.keys(), loc="center left", bbox_to_anchor=(1, 0.5))

    said = [
        f"{result.name}: {number(result.fields['accuracy'])} {bounds(result.fields['ci95'])}"
        for result in results
    ]
    caption, height = "Accuracy with its 95% interval, and the controls", 1.6 + 0.4 * len(results)
    return Plot(caption, draw, said, height)


def _lengths(results: Sequence[Result]) -> Table:
    rows = []
    for result in results:
        length = result.fields["length"]
        sides = [length[side] for side in ("right_longer", "wrong_longer", "equal", "balanced")]
        rows.append((result.name, *(_with_count(side) for side in sides)))
    head = ("length: accuracy where", "right is longer", "wrong is longer", "equal", "balanced")
    return Table(rows, head)


def _with_count(figure: Mapping[str, Any]) -> str:
    count = f" (n {figure['n']:,})" if "n" in figure else ""
    return f"{number(figure['accuracy'])}{count}"


def _calibrations(results: Sequence[Result]) -> Table:
    keys = ("ece", "brier", "loss", "temperature", "scaled_ece", "scaled_loss")
    rows = [
        (result.name, f"{found['n']:,}", *(number(found[key]) for key in keys))
        for result in results
        for found in [result.fields["calibration"]]
    ]
    return Table(rows, ("calibration", "n", *map(spaced, keys)))


def _reliability(results: Sequence[Result]) -> Plot:
    bins = {
        result.name: [each for each in result.fields["calibration"]["bins"] if each["n"]]
        for result in results
    }

    def draw(axes: Axes) -> None:
        axes.plot([0.5, 1], [0.5, 1], ":", color="gray")
        for name, own in bins.items():
            axes.plot([b["p"] for b in own], [b["hits"] for b in own], "o-", label=name)
        axes.set_xlabel("chance of winning by the margin")
        axes.set_ylabel("share that wins")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    said = [
        f"{name}: " + ", ".join(f"{b['p']:.2f} -> {b['hits']:.2f} (n {b['n']:,})" for b in own)
        for name, own in bins.items()
    ]
    return Plot("Reliability: what margins say, and what is so", draw, said)


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> list[Part]:
    said = (
        "Exact sign test over prompts on which the two differ, and its p corrected by Holm for "
        "all tests on this page. Distance of rewards within prompts: 0 for the same order of "
        "everything at any scale, 0.71 for unrelated rewards, 1 for opposite ones."
    )
    rows = [
        (
            f"{each['suite']}: {each['models'][0]} against {each['models'][1]}",
            *(f"{each[key]:,}" for key in ("wins", "losses", "ties")),
            *(f"{each[key]:.2g}" for key in ("p", "p_holm")),
            number(each["distance"]),
        )
        for each in comparisons
    ]
    return [Note(said), Table(rows, ("", "wins", "losses", "ties", "p", "p (Holm)", "distance"))]


def _run(run: Run) -> list[Part]:
    fields = run.fields
    chosen, said = None, "Not finished: no model is reported yet."
    if "checkpoint" in fields:
        chosen = int(fields["checkpoint"].rpartition("@")[2])
        chosen_by = fields.get("chosen_by", "a version that does not say by what")
        said = (
            f"The reported model is step {chosen:,}, chosen by {chosen_by}, never by a benchmark."
        )
    curves: dict[str, list[tuple[int, float]]] = {}
    for name, each in fields.get("suites", {}).get("untrained", {}).items():
        curves[f"suite_{name}"] = [(0, each["accuracy"])]
    for record in run.metrics:
        for name, value in record.items():
            if name.startswith("suite_") or name == "heldout_same_document":
                curves.setdefault(name, []).append((record["step"], value))
    parts: list[Part] = [Note(said)]
    return [*parts, _learning(curves, chosen)] if curves else parts


def _learning(curves: Mapping[str, Sequence[tuple[int, float]]], chosen: int | None) -> Plot:
    def draw(axes: Axes) -> None:
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), "o-", label=spaced(name))
        if chosen is not None:
            axes.axvline(chosen, linestyle=":", color="gray", label="reported")
        axes.set_xlabel("step")
        axes.set_ylabel("accuracy")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    said = [
        f"{spaced(name)}: " + ", ".join(f"{step:,}: {value:.3f}" for step, value in points)
        for name, points in curves.items()
    ]
    return Plot("Learning curves", draw, said)
