"""What a step costs as its grid grows, at one tile: memory, and time for each scored token.

Compiles and runs the whole train step, optimizer included, for each number of prefixes, and
prints its temporaries and its median time over the suffix tokens that it scores, beside those
of the first.

    python benchmarks/tile.py --prefixes 16 128 --tile 8 16
"""

import argparse
import json
import statistics
import time
from functools import partial
from typing import Any

import jax
import numpy as np

from rbs_jax.data.grid import make_batch
from rbs_jax.data.split import Halves
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import fresh
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import IN_BATCH, place
from rbs_jax.train.state import init_state
from rbs_jax.train.step import make_step
from rbs_jax.train.tile import TileConfig

MODEL = TransformerConfig(width=128, dtype="float32", scan_layers=False)
MEGABYTE = 1e6


def random_batch(prefixes: int, lengths: tuple[int, int]) -> Any:
    """One grid of random ids, every suffix but its own a negative of every prefix."""
    chance = np.random.default_rng(0)
    drawn = [chance.integers(MODEL.vocab_size, size=(prefixes, n), dtype=np.int32) for n in lengths]
    halves = Halves(drawn[0], np.full(prefixes, lengths[0], np.int32), drawn[1])
    return make_batch(halves, np.ones((1, prefixes, prefixes), bool))


def measure(
    prefixes: int, tile: TileConfig, loss: Any, lengths: tuple[int, int], rounds: int
) -> dict[str, float]:
    """Temporaries [bytes], and time for each scored token [s]."""
    mesh, objective, optim = make_mesh(MeshConfig()), ObjectiveConfig(loss), OptimConfig()
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(optim, steps=1, updates_per_step=1)
        init = jax.jit(partial(init_state, optimizer=optimizer), donate_argnums=0)
        state = init(fresh(RewardModel, 0, MODEL))
        batch = place(IN_BATCH, random_batch(prefixes, lengths), mesh, 1)
        step = make_step(optimizer, objective, optim, tile).lower(state, batch).compile()
        times = []
        for _ in range(1 + rounds):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, batch))
            times.append(time.perf_counter() - began)
    return {
        "bytes": step.memory_analysis().temp_size_in_bytes,
        "seconds": statistics.median(times[1:]) / (prefixes**2 * lengths[1]),
    }


def main() -> None:
    """Print a line for each number of prefixes, and one last line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prefixes", type=int, nargs="+", default=[16, 128], help="of a grid")
    parser.add_argument("--tile", type=int, nargs=2, default=[8, 16], help="prefixes, suffixes")
    parser.add_argument("--lengths", type=int, nargs=2, default=[64, 32], help="[tokens]")
    losses = ["bradley_terry", "infonce"]
    parser.add_argument("--loss", nargs="+", choices=losses, default=losses)
    parser.add_argument("--rounds", type=int, default=3, help="steps timed, after one that is not")
    args = parser.parse_args()
    ratios = {}
    for loss in args.loss:
        results = [
            measure(prefixes, TileConfig(*args.tile), loss, tuple(args.lengths), args.rounds)
            for prefixes in args.prefixes
        ]
        for prefixes, result in zip(args.prefixes, results, strict=True):
            of_first = {name: result[name] / results[0][name] for name in result}
            ratios[f"{loss} {prefixes}"] = of_first
            print(
                f"{loss:14} {prefixes:4} prefixes: {result['bytes'] / MEGABYTE:7.1f} MB "
                f"({of_first['bytes']:.2f}), {1e6 * result['seconds']:.2f} us a scored token "
                f"({of_first['seconds']:.2f})"
            )
    print(json.dumps({"tile": args.tile, "lengths": args.lengths, "ratios": ratios}))


if __name__ == "__main__":
    main()
