"""What each config's compiled step shares out and sends: golden files, and how they are made.

`python -m tests.tpu_aot.golden` writes those of all configs again, with names only those;
`--print NAME` prints one instead.
"""

import argparse
import dataclasses
import json
from importlib.metadata import version
from pathlib import Path

import jax

from rbs_jax.convert.weights import leaf_paths
from rbs_jax.experiment import load_experiment
from rbs_jax.plan.compile import Compiled, Texts, abstract_state, compile_step
from rbs_jax.plan.hlo import parse
from rbs_jax.plan.network import collectives
from rbs_jax.plan.pod import parse_pod
from rbs_jax.plan.search import candidates, settings, sized
from rbs_jax.sharding import mesh_of

FOLDER = Path(__file__).with_name("golden")
CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py"))
TOPOLOGY = "v5e:4x4"
LAYERS, TEXTS = 2, Texts(prefix=64, suffix=128, block=192)
"""Few and short: every layer sends the same, and a length changes no sharding."""


def made(name: str) -> dict:
    """What the golden file of a config holds."""
    pod = parse_pod(TOPOLOGY)
    experiment = sized(load_experiment(FOLDER.parents[2] / "configs" / f"{name}.py"))
    model = dataclasses.replace(experiment.model, num_layers=LAYERS, remat="full")
    experiment = candidates(dataclasses.replace(experiment, model=model), pod)[0]
    devices = pod.devices()
    mesh = mesh_of(experiment.mesh, devices)
    with jax.set_mesh(mesh):
        state = abstract_state(experiment, mesh)
    outcome = compile_step(experiment, TEXTS, devices)
    assert isinstance(outcome.result, Compiled), outcome.result
    sent = collectives(parse(outcome.result.text), pod.slices)
    return {
        "libtpu": version("libtpu"),
        "topology": TOPOLOGY,
        "settings": settings(experiment),
        "layers": LAYERS,
        "texts": TEXTS._asdict(),
        "parameters": {
            path: f"{list(leaf.shape)} over {list(leaf.sharding.spec)}"
            for path, leaf in leaf_paths(state.model)
        },
        "collectives": {kind: traffic._asdict() for kind, traffic in sent.items()},
        "copied_whole": outcome.warnings,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--print", choices=CONFIGS)
    parser.add_argument("names", nargs="*", default=CONFIGS)
    arguments = parser.parse_args()
    if arguments.print:
        print(json.dumps(made(arguments.print)))
        return
    for name in arguments.names:
        print(name, flush=True)
        (FOLDER / f"{name}.json").write_text(json.dumps(made(name), indent=2) + "\n")


if __name__ == "__main__":
    main()
