"""What a TPU chip can do at most, as its maker publishes it."""

from typing import NamedTuple


class Chip(NamedTuple):
    """The published peaks of one chip, and the slices it comes in."""

    flops: float
    """Of bfloat16 matrix products [operations a second]."""
    bandwidth: float
    """Of its main memory [bytes a second]."""
    network: float
    """To its neighbours, all links together, one way: half the published sum of both ways
    [bytes a second]."""
    slice_network: float
    """To other slices, through its host: its share of the pod's or host's [bytes a second]."""
    memory: float
    """Published [bytes]."""
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
    # 197 TFLOP/s, 16 GB, 819 GB/s, 400 GB/s both ways; of a pod of 256, 6.4 Tbit/s
    "v5e": Chip(
        *(197e12, 819e9, 400e9 / 2, 6.4e12 / 8 / 256, 16e9, 15.75 * 2**30, 2, 256),
        "https://docs.cloud.google.com/tpu/docs/v5e",
    ),
    # 459 TFLOP/s, 95 GB, 2765 GB/s, 1200 GB/s both ways, 50 Gbit/s; a job of 6144 at most
    "v5p": Chip(
        *(459e12, 2765e9, 1200e9 / 2, 50e9 / 8, 95e9, 95.74 * 2**30, 3, 6144),
        "https://docs.cloud.google.com/tpu/docs/v5p",
    ),
    # 918 TFLOP/s, 32 GB, 1638 GB/s, 800 GB/s both ways; of a pod of 256, 25.6 Tbit/s
    "v6e": Chip(
        *(918e12, 1638e9, 800e9 / 2, 25.6e12 / 8 / 256, 32e9, 31.25 * 2**30, 2, 256),
        "https://docs.cloud.google.com/tpu/docs/v6e",
    ),
}
"""By the name a topology begins with."""
