"""Whether an experiment fits a pod, on which mesh, and what bounds its step."""

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import jax

from rbs_jax.data.stream import Work
from rbs_jax.experiment import Experiment
from rbs_jax.model.language import LanguageModel
from rbs_jax.plan.compile import Compiled, Outcome, Texts, compile_step
from rbs_jax.plan.hlo import parse, unknown_loops
from rbs_jax.plan.memory import memory_bytes
from rbs_jax.plan.network import BETWEEN, collectives
from rbs_jax.plan.operations import operations
from rbs_jax.plan.pod import Pod
from rbs_jax.plan.search import candidates, settings, sized, texts_of, thriftier
from rbs_jax.train.flops import step_flops


def plan(
    experiment: Experiment, pod: Pod, meshes: int, utilisation: float | None
) -> dict[str, Any]:
    """Compile the experiment's step for a pod, on one mesh after another.

    Of those that fit, the one with the highest bound on speed is recommended. Says on
    standard error what it compiles.

    Args:
      experiment: what to train; neither its corpora nor its weights need be here.
      pod: where.
      meshes: how many meshes to look at.
      utilisation: a measured share of the chip's peak, for an estimate of the step's
        time; None for bounds alone.

    Returns:
      What `rbs plan --out` writes.

    Raises:
      UserError: no mesh divides the experiment, or libtpu is missing or knows no such pod.
    """
    texts, notes = texts_of(experiment)
    experiment = sized(experiment)
    possible, devices = candidates(experiment, pod), pod.devices()
    looked_at = []
    for spread in possible[:meshes]:
        tried: Experiment | None = spread
        while tried is not None:
            entry = _look(tried, texts, devices, pod, utilisation)
            looked_at.append(entry)
            fits, needed = entry["fits"], entry.get("needed")
            tried = None if fits else thriftier(tried, needed, pod.chip.usable)
    fitting = [entry for entry in looked_at if entry["fits"]]
    best = max(fitting, key=lambda entry: entry["blocks_per_second"], default=None)
    return {
        "topology": str(pod),
        "chips": pod.chips,
        "chip": pod.chip._asdict(),
        "compiled_with": {name: version(name) for name in ("jax", "jaxlib", "libtpu")},
        "text_lengths": texts._asdict(),
        "notes": notes,
        "utilisation": utilisation,
        "fits": best is not None,
        "recommended": None if best is None else best["settings"],
        "candidates": looked_at,
        "meshes_not_looked_at": len(possible[meshes:]),
    }


def _look(
    experiment: Experiment,
    texts: Texts,
    devices: list[jax.Device],
    pod: Pod,
    utilisation: float | None,
) -> dict[str, Any]:
    """One candidate, compiled."""
    chosen = settings(experiment)
    said = ", ".join(f"{name} {value}" for name, value in chosen.items())
    print(f"compiling for {pod}: {said}", file=sys.stderr, flush=True)
    # In a thread of its own, since Ctrl-C is heard only where python runs, and here it waits.
    compiler = ThreadPoolExecutor(1)
    try:
        outcome = compiler.submit(compile_step, experiment, texts, devices).result()
    finally:
        compiler.shutdown(wait=False)
    blocks = experiment.grid.grids_per_step * experiment.grid.prefixes
    return {
        "settings": chosen,
        "compile_seconds": outcome.seconds,
        "useful_flops": step_flops(experiment, _work(experiment, texts)) / pod.chips,
        "copied_whole": outcome.warnings,
        **_measures(outcome, pod, blocks, utilisation),
    }


def _work(experiment: Experiment, texts: Texts) -> Work:
    """What a step computes on, as far as its operations depend on it."""
    prefix, suffix = texts.prefix, texts.suffix
    if experiment.kind is LanguageModel:
        prefix, suffix = 0, texts.block
    return Work(pairs=0, unique_tokens=0, tokens=0, prefix_length=prefix, suffix_length=suffix)


def _measures(outcome: Outcome, pod: Pod, blocks: int, utilisation: float | None) -> dict[str, Any]:
    """What a chip holds, computes, moves and sends in a step of so many blocks."""
    result = outcome.result
    if not isinstance(result, Compiled):
        return {"fits": False, "needed": result.needed, "said": result.said}
    program, chip = parse(result.text), pod.chip
    work, moved = operations(program), memory_bytes(program)
    sent = collectives(program, pod.slices)
    between = sum(traffic.bytes for kind, traffic in sent.items() if kind.startswith(BETWEEN))
    within = sum(traffic.bytes for traffic in sent.values()) - between
    bounds = {
        "compute": work.flops / chip.flops,
        "memory": moved / chip.bandwidth,
        "network": within / chip.network,
        "network between slices": between / chip.slice_network,
    }
    limit = max(bounds, key=lambda name: bounds[name])
    slower = bounds | {"compute": bounds["compute"] / (utilisation or 1)}
    return {
        "fits": True,
        "memory": result.memory,
        "flops": work.flops,
        "kernels_without_flops": work.silent_kernels,
        "memory_bytes": moved,
        "collectives": {kind: traffic._asdict() for kind, traffic in sent.items()},
        "loops_of_unknown_length": unknown_loops(program),
        "bounds": bounds,
        "limit": limit,
        "step_seconds_at_least": bounds[limit],
        "blocks_per_second": blocks / bounds[limit],
        "step_seconds_estimate": None if utilisation is None else max(slower.values()),
    }
