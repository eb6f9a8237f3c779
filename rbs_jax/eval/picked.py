"""What picking the best of N is worth, as tables and plots for a terminal and for the page."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rbs_jax.checkers.table import CHECKERS
from rbs_jax.choose.table import RULES
from rbs_jax.eval.compare import Picked
from rbs_jax.eval.page import Note, Part, Plot, Section, Table
from rbs_jax.eval.report import bounds, number, spaced
from rbs_jax.statistics.beside import CHANCE

LINES = {
    "oracle": ("-", "gray"),
    "random": (":", "gray"),
    "logp": ("--", "C7"),
    "majority": ("--", "C8"),
    "weighted_majority": ("-.", "C8"),
}
"""How a plot draws what is no model's own curve."""
SAID = (
    "Every curve is the exact mean over all subsets of n candidates, but for votes and "
    "tournaments, means over drawn subsets (standard errors are in result.json). Intervals are "
    "95% by bootstrap over prompts; p is the share of deals of scores among each prompt's texts "
    "that do as well. A star marks a control that rm is inside: the interval of its "
    "difference from that control, over the same prompts, does not lie above 0, or one of the "
    "random heads reaches it, or (random) p is above 0.025, or picking matters on fewer than 10 "
    "prompts. The KL is an upper bound [nats], log n - (n - 1) / n, no estimate."
)


def curve_table(fields: Mapping[str, Any]) -> Table:
    """A column for each n, a row for each way to pick; a star where `rm` is not above it."""
    rows = [["prompts", *(f"{count:,}" for count in fields["prompts"])]]
    rows.append(["KL up to [nats]", *(f"{kl:.2f}" for kl in fields["kl_upper_bound"])])
    if fields["rm"] is not None:
        rows += [
            ["rm", *map(number, fields["rm"])],
            ["  95%", *map(bounds, fields["rm_ci95"])],
            ["  over random", *(f"{value:+.3f}" for value in fields["above_random"])],
            ["  95%", *map(bounds, fields["above_random_ci95"])],
            ["  p of blind picks", *(f"{p:.2g}" for p in fields["above_random_p"])],
        ]
        controls = {"random": fields["random"], **fields["controls"]}
        for name, values in controls.items():
            key = CHANCE if name == "random" else name
            inside = [key in own for own in fields["inside_controls"]]
            cells = zip(values, inside, strict=True)
            rows.append([spaced(name), *(f"{v:.3f}{'*' if no else ' '}" for v, no in cells)])
        for name in ("oracle", "majority", "weighted_majority"):
            if fields[name] is not None:
                rows.append([spaced(name), *(f"{value:.3f} " for value in fields[name])])
    return Table(rows, ["n", *map(str, fields["n"])])


def map_table(fields: Mapping[str, Any]) -> Table:
    """The best point of each curve, and one whose n was chosen on other prompts."""
    rows = [
        (
            spaced(name),
            number(own["value"]),
            f"{own['n']:,}",
            number(own["elsewhere"]),
            bounds(own["elsewhere_ci95"]),
            "-" if own["elsewhere_n"] is None else " and ".join(map(str, own["elsewhere_n"])),
        )
        for name, own in fields["map"].items()
    ]
    head = ("", "MAP, n chosen here", "n", "n chosen on other prompts", "95%", "n")
    return Table(rows, head)


def told(fields: Mapping[str, Any]) -> list[Part]:
    """All figures of one result, those of sources too."""
    parts: list[Part] = [Note(_about(fields)), curve_table(fields)]
    if fields["map"] is not None:
        parts.append(map_table(fields))
    if fields["overoptimisation"] is not None:
        parts += [_gold_table(fields), _laws_table(fields)]
    if "by_source" in fields:
        within = {"within sources": fields["within_sources"]}
        for name, own in (within | fields["by_source"]).items():
            said = f"{name}: {_mixed(own)}"
            parts += [Note(said), curve_table(own)]
    return parts


def picked_sections(picked: Sequence[Picked]) -> list[Section]:
    """A section for each set of candidates and what says which are right."""
    by_file: dict[tuple[str, str], list[Picked]] = {}
    for each in picked:
        judged_by = each.fields["candidates"], each.fields["labels"]
        by_file.setdefault(judged_by, []).append(each)
    sections = []
    for own in by_file.values():
        parts: list[Part] = [Note(SAID)]
        judged = [each for each in own if each.fields["rm"] is not None]
        if judged:
            parts.append(_curves("Accuracy of what is picked", judged))
            for source in judged[0].fields.get("by_source", {}):
                of_source = [
                    Picked(each.name, each.fields["by_source"][source])
                    for each in judged
                    if source in each.fields.get("by_source", {})
                ]
                parts.append(_curves(f"Accuracy of what is picked, within {source}", of_source))
        parts += [_gold(each) for each in own if each.fields["overoptimisation"] is not None]
        for each in own:
            parts += [Note(each.name), *told(each.fields)]
        sections.append(Section(f"Best of N: {own[0].fields['file']}", parts))
    return sections


def _about(fields: Mapping[str, Any]) -> str:
    said = [f"{fields['responses']:,} candidates of {fields['prompts_in_all']:,} prompts"]
    said.append(_mixed(fields))
    if fields["checker"] is not None:
        known = CHECKERS.get(fields["checker"])
        said.append(f"right by {fields['checker']}" + (f" ({known.about})" if known else ""))
    if fields.get("rule") in RULES:
        said.append(f"{fields['rule']}: {RULES[fields['rule']].about}")
    if "random_heads_on" in fields:
        said.append(f"random heads on {fields['random_heads_on']}")
    if fields["language_model"]:
        said.append(f"likelihoods by {fields['language_model']}")
    if fields["unscored"]:
        said.append(f"{fields['unscored']:,} have no score and are picked last")
    return "; ".join(said) + "."


def _mixed(fields: Mapping[str, Any]) -> str:
    most = fields["n"][-1] if fields["n"] else 0
    if fields["mixed"] is None:
        return f"at most {most} a prompt; it is not known which are right"
    return f"at most {most} a prompt, {fields['mixed']:,} prompts with right and wrong ones"


def _curves(caption: str, picked: Sequence[Picked]) -> Plot:
    """Each model's curve, and over them what does not hang on the model; of one, that too."""
    first = picked[0].fields

    def draw(axes: Axes) -> None:
        for at, each in enumerate(picked):
            own = each.fields
            axes.plot(own["n"], own["rm"], "o-", color=f"C{at}", label=each.name)
            if all(own["rm_ci95"]):
                low, high = np.transpose(own["rm_ci95"])
                axes.fill_between(own["n"], low, high, color=f"C{at}", alpha=0.15)
        for name, (style, color) in LINES.items():
            own_line = name != "weighted_majority" or len(picked) == 1
            if first[name] is not None and own_line:
                axes.plot(first["n"], first[name], style, color=color, label=spaced(name))
        axes.plot(first["n"], first["controls"]["longer"], ".:", color="C6", label="longer")
        if len(picked) == 1:
            heads = first["controls"]["random_head"]
            axes.plot(first["n"], heads, ".:", color="C5", label="random head")
        axes.set_xscale("log", base=2)
        close = [n > 1 and later / n < 1.4 for n, later in pairwise([*first["n"], math.inf])]
        bound = zip(first["n"], first["kl_upper_bound"], close, strict=True)
        axes.set_xticks(first["n"], ["" if no else f"{n}\n{kl:.2f}" for n, kl, no in bound])
        axes.set_xlabel("n, and below it the upper bound of the KL [nats]")
        axes.set_ylabel("share right")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    said = []
    for each in picked:
        points = zip(each.fields["n"], each.fields["rm"], strict=True)
        said.append(f"{each.name}: " + ", ".join(f"{n}: {value:.3f}" for n, value in points))
    return Plot(caption, draw, said, 3.2)


def _gold_table(fields: Mapping[str, Any]) -> Table:
    found = fields["overoptimisation"]
    rows = []
    for at, n in enumerate(fields["n"]):
        proxy = "-" if found["proxy"] is None else f"{found['proxy'][at]:.3f}"
        gold = f"{found['gold'][at]:.3f}", bounds(found["gold_ci95"][at])
        gain, most = f"{found['gold_gain'][at]:+.3f}", f"{found['gold_oracle'][at]:.3f}"
        rows.append((f"n {n}", proxy, *gold, gain, most))
    head = ("gold score", "proxy", "gold", "95%", "gain over n 1", "best gold there is")
    return Table(rows, head)


def _laws_table(fields: Mapping[str, Any]) -> Part:
    fits = fields["overoptimisation"]["laws"]
    if fits is None:
        return Note("Too few sizes for a law of over-optimisation.")
    laws = {"best_of_n": "d (alpha - beta d)", "rl": "d (alpha - beta log d)"}
    rows = [
        (
            f"{spaced(name)}: {law}",
            f"{fits[name]['alpha']:.3f}",
            bounds(fits[name]["alpha_ci95"]),
            f"{fits[name]['beta']:.3f}",
            bounds(fits[name]["beta_ci95"]),
            f"{fits[name]['residual']:.2g}",
            "-" if fits[name].get("peak") is None else f"{fits[name]['peak']:.2f}",
        )
        for name, law in laws.items()
    ]
    head = ("gain of gold, d = sqrt(KL bound)", "alpha", "95%", "beta", "95%", "residual", "peak d")
    return Table(rows, head)


def _gold(picked: Picked) -> Plot:
    """Gold's gain along d with the laws' curves, and the proxy's on an axis of its own."""
    fields, found = picked.fields, picked.fields["overoptimisation"]
    d = np.sqrt(fields["kl_upper_bound"])

    def draw(axes: Axes) -> None:
        axes.plot(d, found["gold_gain"], "o", color="C0", label="gold, gain over n = 1")
        if found["laws"] is not None:
            x = np.linspace(0.01, d[-1], 100)
            for at, name in enumerate(("best_of_n", "rl")):
                fit = found["laws"][name]
                falls = x if name == "best_of_n" else np.log(x)
                y = x * (fit["alpha"] - fit["beta"] * falls)
                axes.plot(x, y, "-:"[at], color="C0", label=f"law of {spaced(name)}")
        axes.set_xlabel("d, the root of the upper bound of the KL [nats^0.5]")
        axes.set_ylabel("gain of the gold score")
        if found["proxy"] is not None:
            other = axes.twinx()
            other.plot(d, found["proxy_gain"], "x--", color="C1", label="proxy, gain over n = 1")
            other.set_ylabel("gain of the proxy", color="C1")
        axes.legend(loc="best")

    said = [
        "gold, gain over n = 1: "
        + ", ".join(f"{at:.2f}: {gain:.3f}" for at, gain in zip(d, found["gold_gain"], strict=True))
    ]
    return Plot(f"Gold score against proxy, {picked.name}", draw, said, 3.2)
