"""All figures of picking among candidates, from the candidates' numbers alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rbs_jax.bon.best_point import best_point
from rbs_jax.bon.candidates import PerCandidate, Pool
from rbs_jax.bon.curves import (
    Curve,
    Pick,
    Worth,
    by_chance,
    by_majority,
    by_rule,
    by_value,
    by_weighted_majority,
    curve,
    sizes,
)
from rbs_jax.bon.overoptimised import kl_upper_bound, laws
from rbs_jax.bon.permutations import LEVEL, blind
from rbs_jax.choose.rule import Rule
from rbs_jax.statistics.beside import CHANCE, HEAD, Beside, averaged
from rbs_jax.statistics.figures import FEWEST, Group, Groups, interval_of, resampled

RM, ORACLE, LOGP = "rm", "oracle", "logp"
VOTES = ("majority", "weighted_majority")


def figures(pools: Sequence[Pool], rule: Rule, ns: Sequence[int] | None = None) -> dict[str, Any]:
    """Every curve over n, whatever the candidates let be known; None for what they do not.

    Args:
      pools: the candidates of each prompt.
      rule: what picks by the models' scores.
      ns: sizes to measure; None for `sizes` of the pools.

    Returns:
      "n", and lists beside it: "prompts" that have so many candidates, "kl_upper_bound" [nats],
      "rm" (the rule's picks by the model's scores) with "rm_ci95" and "rm_error", "above_random"
      with its ci95 and p (`blind`), "inside_controls", "oracle", "random", "logp", "majority" and
      "weighted_majority" with their "_error", "controls" and "random_heads"; "map" (`best_point`)
      and "ci95" of the other curves by name; "overoptimisation"; "by_source" and "within_sources":
      the same within each source, and over all of them as far as every source goes. What is right
      or wrong counts by its share of 1, intervals are 95% over prompts, an error is the standard
      error of having drawn some subsets instead of all.
    """
    ns = sizes(pools) if ns is None else ns
    found = {
        "prompts_in_all": len(pools),
        "mixed": _mixed(pools),
        "n": ns,
        "prompts": [sum(pool.size >= n for pool in pools) for n in ns],
        "kl_upper_bound": [kl_upper_bound(n) for n in ns],
        **_right(pools, ns, rule),
        "overoptimisation": _overoptimisation(pools, ns, rule),
    }
    apart = by_source(pools)
    if len(apart) > 1:
        found["by_source"] = {name: figures(own, rule) for name, own in apart.items()}
        each = [own for pools_of_source in apart.values() for own in pools_of_source]
        # Farther, the curve would be one of other sources.
        shared = min((sizes(own) for own in apart.values()), key=max)
        found["within_sources"] = figures(each, rule, shared)
    return found


def by_source(pools: Sequence[Pool]) -> dict[str, list[Pool]]:
    """The candidates of each source alone; none if it is not known where they come from."""
    found: dict[str, list[Pool]] = {}
    for pool in pools:
        for source in dict.fromkeys(pool.known.source or []):
            places = [at for at, own in enumerate(pool.known.source or []) if own == source]
            alone = pool.only(places)
            found.setdefault(source, []).append(
                alone._replace(known=alone.known._replace(source=None))
            )
    return found


def _mixed(pools: Sequence[Pool]) -> int | None:
    """How many prompts have candidates of which one is better than another: only they count."""
    known = [(pool.prompt, pool.known.correct) for pool in pools]
    if any(own is None for _, own in known):
        return None
    return len({prompt for prompt, own in known if own is not None and len(np.unique(own)) > 1})


def _all_know(pools: Sequence[Pool], field: str) -> bool:
    return bool(pools) and all(getattr(pool.known, field) is not None for pool in pools)


def _by_head(at: int, pool: Pool) -> np.ndarray:
    return pool.heads[at]


def _by_control(name: str, pool: Pool) -> PerCandidate:
    return pool.controls[name]


def _of(field: str) -> Worth:
    return lambda pool: getattr(pool.known, field)


def _right(pools: Sequence[Pool], ns: Sequence[int], rule: Rule) -> dict[str, Any]:
    names = (RM, "rm_ci95", "rm_error", "above_random", "above_random_ci95", "above_random_p")
    if not ns or not _all_know(pools, "correct"):
        others = (ORACLE, "random", LOGP, "inside_controls", "controls", "random_heads")
        votes = [f"{vote}{end}" for vote in VOTES for end in ("", "_error")]
        return dict.fromkeys((*names, *others, *votes, "map", "ci95"))
    curves = _curves(pools, ns, rule)
    heads = [
        curve(pools, ns, by_rule(rule, partial(_by_head, at)), _of("correct")).groups
        for at in range(len(pools[0].heads))
    ]
    ours = curves.pop(RM)
    controls = {name: own.groups for name, own in curves.items() if _is_control(name)}
    beside = Beside(ours.groups, controls | {HEAD: averaged(heads)}, heads)
    found = _picked(pools, ns, rule, beside) | {"rm_error": ours.errors}
    found |= {ORACLE: _means(curves[ORACLE].groups), "random": _means(controls[CHANCE])}
    found[LOGP] = _means(controls[LOGP]) if LOGP in controls else None
    for vote in VOTES:
        voted = curves.get(vote)
        found[vote] = None if voted is None else _means(voted.groups)
        found[f"{vote}_error"] = None if voted is None else voted.errors
    shown = {name: _means(own) for name, own in controls.items() if name != CHANCE}
    found["controls"] = shown | {HEAD: _means(averaged(heads))}
    found["random_heads"] = [_means(head) for head in heads]
    of_all = {RM: ours.groups, "random": controls[CHANCE]} | {
        name: own.groups for name, own in curves.items() if name != CHANCE
    }
    most = min(pool.size for pool in pools if pool.size)
    common = [str(n) for n in ns if n <= most]  # else points would be of other prompts
    maps = {name: best_point({n: own[n] for n in common}) for name, own in of_all.items()}
    intervals = {name: _intervals(own) for name, own in of_all.items() if name != RM}
    return found | {"map": maps, "ci95": intervals}


def _picked(pools: Sequence[Pool], ns: Sequence[int], rule: Rule, beside: Beside) -> dict[str, Any]:
    """What the rule picks is worth, and whether that is more than its controls."""
    each = [beside.figure({str(n): 1.0}) for n in ns]
    above = [beside.above(CHANCE, {str(n): 1.0}) for n in ns]
    p = blind(pools, ns, rule, _of("correct"))
    mixed = [_mixed([pool for pool in pools if pool.size >= n]) for n in ns]
    return {
        RM: [own["accuracy"] for own in each],
        "rm_ci95": [own["ci95"] for own in each],
        "above_random": [own["difference"] for own in above],
        "above_random_ci95": [own["ci95"] for own in above],
        "above_random_p": p,
        "inside_controls": [_inside(*of_n) for of_n in zip(each, mixed, p, strict=True)],
    }


def _inside(figure: Mapping[str, Any], mixed: int | None, p: float) -> list[str]:
    """Of too few prompts on which picking matters, no figure is above any control."""
    if mixed is None or mixed < FEWEST:
        return list(figure["controls"])
    inside = list(figure["inside_controls"])
    return [*inside, CHANCE] if p > LEVEL and CHANCE not in inside else inside


def _is_control(name: str) -> bool:
    return name not in (RM, ORACLE, *VOTES)


def _curves(pools: Sequence[Pool], ns: Sequence[int], rule: Rule) -> dict[str, Curve]:
    picks: dict[str, Pick] = {
        RM: by_rule(rule, lambda pool: pool.scores),
        ORACLE: by_value(_of("correct")),
        CHANCE: by_chance,
    }
    for name in pools[0].controls:
        picks[name] = by_value(partial(_by_control, name))
    if _all_know(pools, "logprob"):
        picks[LOGP] = by_value(_of("logprob"))
    if _all_know(pools, "answers"):
        picks |= zip(VOTES, (by_majority, partial(by_weighted_majority, rule)), strict=True)
    return {name: curve(pools, ns, pick, _of("correct")) for name, pick in picks.items()}


def _means(groups: Groups) -> list[float]:
    return [float(group.values.mean()) for group in groups.values()]


def _intervals(groups: Groups) -> list[list[float] | None]:
    draws = resampled(groups)
    return [interval_of(groups, draws, {name: 1.0}) for name in groups]


def _overoptimisation(
    pools: Sequence[Pool], ns: Sequence[int], rule: Rule
) -> dict[str, Any] | None:
    """Gold and proxy along n, their gains over n = 1 on the same prompts, and the laws."""
    if not _all_know(pools, "gold") or not ns:
        return None
    pick = by_rule(rule, lambda pool: pool.scores)
    kinds: dict[str, tuple[Pick, Callable[[Pool], np.ndarray]]] = {
        "gold": (pick, _of("gold")),
        "gold_oracle": (by_value(_of("gold")), _of("gold")),
    }
    if all(len(pool.scores) == 1 and np.isfinite(pool.scores).all() for pool in pools):
        kinds["proxy"] = (pick, lambda pool: pool.scores[0])
    found: dict[str, Any] = {"proxy": None}
    for name, (own, worth) in kinds.items():
        groups = curve(pools, ns, own, worth).groups
        found[name], found[f"{name}_ci95"] = _means(groups), _intervals(groups)
        gains = _gains(groups, curve(pools, ns, by_chance, worth).groups)
        found[f"{name}_gain"] = _means(gains)
        if name == "gold":
            found["laws"] = laws(ns, gains)
    return found


def _gains(groups: Groups, blind: Groups) -> dict[str, Group]:
    """Values less those of the same prompts at n = 1, which is picking blindly."""
    return {
        name: Group(group.values - blind[name].values, group.units)
        for name, group in groups.items()
    }
