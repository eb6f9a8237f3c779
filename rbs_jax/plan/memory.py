"""What a compiled program reads from a chip's main memory and writes to it, loops included."""

import math

from rbs_jax.plan.hlo import Computation, Instruction, Program, Value, runs
from rbs_jax.plan.network import SHARES

FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("while", "conditional", "call", "opt-barrier", "partition-id", "replica-id"),
    *("copy-start", "slice-start", "async-start", "async-update", "async-done"),
    *("send-done", "recv-done"),
}
"""What moves nothing, or nothing of its own."""
BUFFERS = ("AllocateBuffer", "AssumeGatherIndicesInBound", "AsyncCollective", "ConcatBitcast")
"""Custom calls that name a place and move nothing."""
PARTS = ("dynamic-slice", "gather", "slice")
"""What reads of its first operand only what it makes."""


def memory_bytes(program: Program) -> int:
    """A fusion reads its operands once and writes its results; what is inside stays there.

    Slices count by what they take or put, not by the array they belong to; what lies
    in a faster memory does not count; nor does a layout's padding.
    """
    total = 0
    for run in runs(program):
        if not run.is_fused:
            total += run.times * _moved(program, run.computation, run.instruction)
    return total


def _moved(program: Program, computation: Computation, instruction: Instruction) -> int:
    opcode, operands = instruction.opcode, computation.operands(instruction)
    if opcode in FREE or any(f'target="{name}' in instruction.attributes for name in BUFFERS):
        return 0
    if opcode == "fusion":
        return _of_fusion(program, computation, instruction)
    if opcode in ("copy-done", "slice-done"):
        (source,) = computation.operands(operands[0])[:1]
        return _at(source.values[0], instruction.bytes) + _in_main(instruction)
    if opcode.endswith("-done"):
        return 0
    if opcode in PARTS:
        return _at(operands[0].values[0], instruction.bytes) + _in_main(instruction)
    if opcode == "dynamic-update-slice":
        return _in_main(operands[1]) + _at(instruction.values[0], operands[1].bytes)
    if opcode == "scatter":
        return _in_main(operands[-1]) + _at(instruction.values[0], 2 * operands[-1].bytes)
    results = 0 if opcode.endswith("-start") else _in_main(instruction)
    return sum(map(_in_main, operands)) + results


def _in_main(instruction: Instruction) -> int:
    return sum(_at(value, value.bytes) for value in instruction.values)


def _at(place: Value, moved: int) -> int:
    """Bytes moved to or from a place, if it lies in main memory."""
    return moved if place.space == 0 else 0


def _of_fusion(program: Program, computation: Computation, fusion: Instruction) -> int:
    inside = program.computations[fusion.called("calls") or ""]
    total = 0
    for index, operand in enumerate(computation.operands(fusion)):
        read = _read(program, inside, _parameter(inside, index))
        total += int(min(_in_main(operand), read))
    root = inside.instructions[inside.root]
    made = inside.operands(root) if root.opcode == "tuple" else [root]
    if len(made) != len(fusion.values):
        return total + _in_main(fusion)
    for value, instruction in zip(fusion.values, made, strict=True):
        written = min(value.bytes, _written(program, inside, instruction))
        total += _at(value, int(written))
    return total


def _parameter(computation: Computation, index: int) -> Instruction:
    return next(
        instruction
        for instruction in computation.instructions.values()
        if instruction.opcode == "parameter" and instruction.attributes.split(",")[0] == str(index)
    )


def _read(program: Program, computation: Computation, source: Instruction) -> float:
    """What a fused computation reads of a value: infinity stands for all of it."""
    total = 0.0
    for user in computation.instructions.values():
        if source.name not in user.operands:
            continue
        place = user.operands.index(source.name)
        if user.opcode in PARTS and place == 0:
            total += user.bytes
        elif user.opcode in ("bitcast", "get-tuple-element"):
            total += _read(program, computation, user)
        elif user.opcode == "fusion":
            inside = program.computations[user.called("calls") or ""]
            total += _read(program, inside, _parameter(inside, place))
        elif not _passes(user, place):
            total += math.inf
    return total


def _passes(user: Instruction, place: int) -> bool:
    """Whether an instruction only hands a value on, or sends it, which counts by itself."""
    updated = user.opcode in ("dynamic-update-slice", "scatter") and place == 0
    buffer = any(f'target="{name}' in user.attributes for name in BUFFERS)
    return updated or buffer or user.opcode == "tuple" or user.opcode in SHARES


def _written(program: Program, computation: Computation, made: Instruction) -> float:
    """What a fused computation writes of a result: infinity stands for all of it."""
    if made.opcode == "bitcast":
        return _written(program, computation, computation.operands(made)[0])
    if made.opcode == "dynamic-update-slice":
        return computation.operands(made)[1].bytes
    if made.opcode == "scatter":
        return 2 * computation.operands(made)[-1].bytes
    if made.opcode == "fusion" and len(made.values) == 1:
        inside = program.computations[made.called("calls") or ""]
        return _written(program, inside, inside.instructions[inside.root])
    if made.opcode == "parameter" or _passes(made, -1):
        return 0
    return math.inf
