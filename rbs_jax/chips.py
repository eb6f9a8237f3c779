"""What a chip can do at most, as its maker publishes it."""

from collections.abc import Iterable
from typing import NamedTuple


class Chip(NamedTuple):
    """The peaks of one device as JAX counts them."""

    flops: float
    """Of dense bfloat16 matrix products [operations a second]."""
    memory: float
    """[bytes]"""
    bandwidth: float
    """Of its memory [bytes a second]."""


# NVIDIA's data sheets print operations with structured sparsity, twice the dense ones; a device
# of part of a card (MIG) has another name, and none of these figures.
CHIPS = {
    # cloud.google.com/tpu/docs/v4: 275 TFLOP/s a chip, 32 GiB, 1200 GB/s
    "TPU v4": Chip(275e12, 32 * 2**30, 1200e9),
    # cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB, 819 GB/s
    "TPU v5 lite": Chip(197e12, 16e9, 819e9),
    # cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GB, 2765 GB/s
    "TPU v5": Chip(459e12, 95e9, 2765e9),
    "TPU v5p": Chip(459e12, 95e9, 2765e9),
    # cloud.google.com/tpu/docs/v6e: 918 TFLOP/s, 32 GB, 1638 GB/s
    "TPU v6 lite": Chip(918e12, 32e9, 1638e9),
    "TPU v6e": Chip(918e12, 32e9, 1638e9),
    # NVIDIA A100 Tensor Core GPU data sheet: 312 TFLOP/s dense
    "NVIDIA A100-SXM4-40GB": Chip(312e12, 40e9, 1555e9),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 80e9, 2039e9),
    "NVIDIA A100-PCIE-40GB": Chip(312e12, 40e9, 1555e9),
    "NVIDIA A100 80GB PCIe": Chip(312e12, 80e9, 1935e9),
    # NVIDIA H100 Tensor Core GPU data sheet, sparse: SXM 1979, PCIe 1513, NVL 1671 TFLOP/s
    "NVIDIA H100 80GB HBM3": Chip(989.5e12, 80e9, 3350e9),
    "NVIDIA H100 PCIe": Chip(756.5e12, 80e9, 2000e9),
    "NVIDIA H100 NVL": Chip(835.5e12, 94e9, 3900e9),
    # NVIDIA H200 Tensor Core GPU data sheet, sparse: SXM 1979, NVL 1671 TFLOP/s
    "NVIDIA H200": Chip(989.5e12, 141e9, 4800e9),
    "NVIDIA H200 NVL": Chip(835.5e12, 141e9, 4800e9),
    # NVIDIA Blackwell data sheet, HGX B200, sparse: 4.5 PFLOP/s, 180 GB, 7.7 TB/s
    "NVIDIA B200": Chip(2.25e15, 180e9, 7700e9),
}
"""By `jax.Device.device_kind`, spelt exactly."""


def peak_flops(kinds: Iterable[str]) -> float | None:
    """Of devices of these kinds together [bfloat16 operations a second]; None if one is unknown."""
    chips = [CHIPS.get(kind) for kind in kinds]
    known = [chip for chip in chips if chip is not None]
    return sum(chip.flops for chip in known) if len(known) == len(chips) else None
