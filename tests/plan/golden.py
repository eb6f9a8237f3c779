"""What each config's step shares out and sends, on 8 simulated devices: how golden files are made.

`python -m tests.plan.golden` writes those of all configs again, with names only those.
Partitioned on CPU, which takes seconds where TPU's compiler takes minutes: shardings are the
same, and so is what they ask for; how a TPU fuses and splits it is not.
"""

import argparse
import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from rbs_jax.convert.weights import leaf_paths
from rbs_jax.experiment import load_experiment
from rbs_jax.plan.compile import Texts, abstract_state, lower_step
from rbs_jax.plan.hlo import parse
from rbs_jax.plan.network import collectives
from rbs_jax.plan.pod import parse_pod
from rbs_jax.plan.search import candidates, settings, sized
from rbs_jax.sharding import mesh_of

FOLDER = Path(__file__).with_name("golden")
CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py"))
POD = parse_pod("v5e:2x4")
LAYERS, TEXTS, NARROWER = 2, Texts(prefix=16, suffix=32, block=48), 8
"""Few, short and narrow: every layer sends the same, and no size changes a sharding."""


def made(name: str) -> dict[str, Any]:
    """What the golden file of a config holds."""
    experiment = sized(load_experiment(FOLDER.parents[2] / "configs" / f"{name}.py"))
    model = dataclasses.replace(
        experiment.model,
        num_layers=LAYERS,
        vocab_size=1024,
        width=experiment.model.width // NARROWER,
        mlp_width=experiment.model.mlp_width // NARROWER,
    )
    experiment = candidates(dataclasses.replace(experiment, model=model), POD)[0]
    devices = jax.devices()[: POD.chips]
    mesh = mesh_of(experiment.mesh, devices)
    with jax.set_mesh(mesh):
        state = abstract_state(experiment, mesh)
    program = lower_step(experiment, TEXTS, devices).compile().as_text()
    sent = collectives(parse(program or ""))
    return {
        "jax": version("jax"),
        "settings": settings(experiment),
        "parameters": {
            path: f"{list(leaf.shape)} over {list(leaf.sharding.spec)}"
            for path, leaf in leaf_paths(state.model)
        },
        "collectives": {kind: traffic._asdict() for kind, traffic in sent.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=CONFIGS)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", POD.chips)
    for name in parser.parse_args().names:
        print(name, flush=True)
        (FOLDER / f"{name}.json").write_text(json.dumps(made(name), indent=2) + "\n")


if __name__ == "__main__":
    main()
