"""What a TPU chip in a slice can do at most, as its maker publishes it."""

from typing import NamedTuple

from rbs_jax.chips import CHIPS as DEVICES


class Chip(NamedTuple):
    """The published peaks of one chip, and the slices it comes in."""

    flops: float
    """Of bfloat16 matrix products [operations a second]."""
    memory: float
    """Published [bytes]."""
    bandwidth: float
    """Of its main memory [bytes a second]."""
    network: float
    """To its neighbours, all links together, one way: half the published sum of both ways
    [bytes a second]."""
    slice_network: float
    """To other slices, through its host: its share of the pod's or host's [bytes a second]."""
    usable: float
    """What the compiler lets a program have, as libtpu 0.0.42.1 says where one does not fit
    [bytes]."""
    axes: int
    """Of a slice: 2 for a plane, 3 for a cuboid."""
    largest: int
    """Chips of the largest slice."""
    source: str
    """Where the published figures stand."""


CHIPS = {
    # 400 GB/s both ways; of a pod of 256, 6.4 Tbit/s
    "v5e": Chip(
        *DEVICES["TPU v5 lite"],
        network=400e9 / 2,
        slice_network=6.4e12 / 8 / 256,
        usable=15.75 * 2**30,
        axes=2,
        largest=256,
        source="https://docs.cloud.google.com/tpu/docs/v5e",
    ),
    # 1200 GB/s both ways, 50 Gbit/s; a job of 6144 at most
    "v5p": Chip(
        *DEVICES["TPU v5p"],
        network=1200e9 / 2,
        slice_network=50e9 / 8,
        usable=95.74 * 2**30,
        axes=3,
        largest=6144,
        source="https://docs.cloud.google.com/tpu/docs/v5p",
    ),
    # 800 GB/s both ways; of a pod of 256, 25.6 Tbit/s
    "v6e": Chip(
        *DEVICES["TPU v6e"],
        network=800e9 / 2,
        slice_network=25.6e12 / 8 / 256,
        usable=31.25 * 2**30,
        axes=2,
        largest=256,
        source="https://docs.cloud.google.com/tpu/docs/v6e",
    ),
}
"""By the name a topology begins with."""
