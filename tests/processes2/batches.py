"""Write the global batches that the devices of several processes hold.

python -m tests.processes2.batches HOST:PORT PROCESSES INDEX DATA FSDP OUT
"""

import os
import sys
from pathlib import Path

import jax
import numpy as np

STEPS = (0, 7, 40)


def stream():
    """That of tiny.py."""
    from rbs_jax.data.reader import Corpus
    from rbs_jax.data.stream import GridStream
    from rbs_jax.experiment import load_experiment

    experiment = load_experiment(Path("tiny.py"))
    corpora = [Corpus(f"{os.environ['CORPORA']}/train")]
    return GridStream(corpora, experiment.split, experiment.grid, experiment.seed)


def main(address, processes, index, data, fsdp, out):
    """What one process does."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 4 // int(processes))
    jax.distributed.initialize(address, int(processes), int(index))
    from jax.experimental.multihost_utils import process_allgather

    from rbs_jax.sharding import MeshConfig, make_mesh
    from rbs_jax.train.feed import Feed

    mesh, batches = make_mesh(MeshConfig(int(data), int(fsdp), 1)), {}
    for step in STEPS:
        (batch,) = Feed(stream(), mesh, 4, step, step + 1)
        for number, leaf in enumerate(jax.tree.leaves(batch)):
            batches[f"{step}-{number}"] = process_allgather(leaf, tiled=True)
    if int(index) == 0:
        np.savez(out, **batches)


if __name__ == "__main__":
    main(*sys.argv[1:])
