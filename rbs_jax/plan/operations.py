"""The floating-point operations of a compiled program: its matrix products, loops included."""

import math
import re
from typing import NamedTuple

import numpy as np

from rbs_jax.plan.hlo import Computation, Instruction, Program, runs


class Operations(NamedTuple):
    """What one device computes in a step."""

    flops: int
    """Of matrix products, two an element and multiplication, those of kernels among them."""
    silent_kernels: int
    """Runs of kernels that do not say theirs, and so are missing."""


def operations(program: Program) -> Operations:
    """The matrix products of a program, and its kernels; all else is not counted."""
    flops = silent = 0
    for run in runs(program):
        instruction, computation = run.instruction, run.computation
        if instruction.opcode == "dot":
            flops += run.times * dot_flops(instruction, computation)
        elif instruction.opcode == "convolution":
            flops += run.times * convolution_flops(instruction, computation)
        elif '"tpu_custom_call"' in instruction.attributes:
            count = kernel_flops(instruction, computation)
            flops += run.times * (count or 0)
            silent += run.times if count is None else 0
    return Operations(flops, silent)


def dot_flops(dot: Instruction, computation: Computation) -> int:
    """Two operations for every element of the result and of the contracted axes."""
    left = computation.operands(dot)[0].values[0].shape
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", dot.attributes)
    axes = contracted[1].split(",") if contracted and contracted[1] else []
    return 2 * dot.values[0].size * math.prod(left[int(axis)] for axis in axes)


def convolution_flops(convolution: Instruction, computation: Computation) -> int:
    """Two operations wherever the window meets the image, not its padding or dilation.

    A TPU's compiler writes all matrix products as convolutions; a batch becomes a
    window over a dilated image, which meets it in one place alone.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", convolution.attributes)
    assert labels is not None, convolution
    image, kernel = (operand.values[0].shape for operand in computation.operands(convolution)[:2])
    result = convolution.values[0].shape
    window = Window(convolution.attributes, sum(label.isdigit() for label in labels[1]))
    count = 2 * result[labels[3].index("b")] * result[labels[3].index("f")]
    count *= kernel[labels[2].index("i")]
    for axis in range(window.axes):
        at = [names.index(str(axis)) for names in labels.groups()]
        count *= window.meetings(axis, image[at[0]], kernel[at[1]], result[at[2]])
    groups = re.search(r"batch_group_count=(\d+)", convolution.attributes)
    return count // (int(groups[1]) if groups else 1)


SPLASH = {"fwd": 2, "dq": 3, "dkv": 4}
"""Products of queries with keys, or as large, in each kernel of splash attention."""


def kernel_flops(kernel: Instruction, computation: Computation) -> int | None:
    """What a kernel says of itself, or what splash attention, which says nothing, must compute.

    That is what its queries see, the text up to themselves and all before it: no window, and
    nothing that is masked. None of other kernels.
    """
    if said := re.search(r'"cost_estimate":\{"flops":"?(\d+)', kernel.attributes):
        return int(said[1])
    splash = re.match(r"splash_mha_([a-z]+)", kernel.name)
    if splash is None:
        return None
    given = [operand.values[0] for operand in computation.operands(kernel)]
    q, k, *_ = [value for value in given if value.dtype in ("bf16", "f32")]
    queries, keys = q.shape[-2], k.shape[-2]
    seen = queries * (keys - queries) + queries * (queries + 1) // 2
    return SPLASH[splash[1]] * 2 * (q.size // queries) * seen


class Window:
    """How a convolution's window moves, along each of its axes."""

    def __init__(self, attributes: str, axes: int) -> None:
        found = re.search(r"window=\{([^}]*)\}", attributes)
        fields = dict(field.split("=") for field in found[1].split()) if found else {}
        self.axes = axes

        def numbers(name: str, default: str) -> list[str]:
            return fields[name].split("x") if name in fields else [default] * axes

        self.strides = list(map(int, numbers("stride", "1")))
        self.before = [int(pad.split("_")[0]) for pad in numbers("pad", "0_0")]
        self.image_dilations = list(map(int, numbers("lhs_dilate", "1")))
        self.kernel_dilations = list(map(int, numbers("rhs_dilate", "1")))

    def meetings(self, axis: int, image: int, kernel: int, result: int) -> int:
        """Pairs of a place of the window and a result for which there is an element."""
        at = np.arange(result)[:, None] * self.strides[axis] - self.before[axis]
        at = at + np.arange(kernel) * self.kernel_dilations[axis]
        dilation = self.image_dilations[axis]
        return int(((at >= 0) & (at <= (image - 1) * dilation) & (at % dilation == 0)).sum())
