"""What a compiled program reads from a chip's main memory and writes to it, loops included."""

import math

from rbs_jax.plan.hlo import Computation, Instruction, Program, Value, runs
from rbs_jax.plan.network import PAIRWISE, SHARES

FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("while", "conditional", "call", "opt-barrier", "partition-id", "replica-id"),
    *("copy-start", "slice-start", "async-start", "async-update", "async-done"),
    *("send-done", "recv"),
}
"""What moves nothing, or nothing of its own."""
BUFFERS = ("AllocateBuffer", "AssumeGatherIndicesInBound", "AsyncCollective", "ConcatBitcast")
"""Custom calls that name a place and move nothing."""
COLLECTIVES = (*SHARES, *PAIRWISE)
UPDATES = {"dynamic-update-slice": 1, "scatter": -1}
"""What changes a part of its first operand, in place, and which operand it puts there."""
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
    if instruction.opcode in FREE or _names_a_place(instruction):
        return 0
    if instruction.opcode == "fusion":
        return _of_fusion(program, computation, instruction)
    return sum(_at(value, moved) for value, moved in _moves(computation, instruction))


def _moves(computation: Computation, instruction: Instruction) -> list[tuple[Value, int]]:
    """The values that an instruction reads and makes, with the bytes it moves of each."""
    opcode, operands = instruction.opcode, computation.operands(instruction)
    made = [(value, value.bytes) for value in instruction.values]
    if opcode in ("copy-done", "slice-done"):
        source = computation.operands(operands[0])[0]
        return [(source.values[0], instruction.bytes), *made]
    if opcode.endswith("-done"):
        return made
    if opcode in PARTS:
        return [(operands[0].values[0], instruction.bytes), *made]
    if opcode in UPDATES:
        update = operands[UPDATES[opcode]].values[0]
        return [(update, update.bytes), (instruction.values[0], _put(opcode, update))]
    read = [(value, value.bytes) for operand in operands for value in operand.values]
    return read if opcode.endswith("-start") or opcode == "send" else [*read, *made]


def _put(opcode: str, update: Value) -> int:
    """What an update moves of the array it changes; a scatter adds, so it reads first."""
    return (2 if opcode == "scatter" else 1) * update.bytes


def _names_a_place(instruction: Instruction) -> bool:
    return any(f'target="{name}' in instruction.attributes for name in BUFFERS)


def _at(place: Value, moved: int) -> int:
    """Bytes moved to or from a place, if it lies in main memory."""
    return moved if place.space == 0 else 0


def _in_main(instruction: Instruction) -> int:
    return sum(_at(value, value.bytes) for value in instruction.values)


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


def _read(program: Program, computation: Computation, source: Instruction) -> int | float:
    """What a fused computation reads of a value: infinity stands for all of it."""
    total: int | float = 0
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
    changes = user.opcode in UPDATES and place == 0
    return changes or _names_a_place(user) or user.opcode == "tuple" or user.opcode in COLLECTIVES


def _written(program: Program, computation: Computation, made: Instruction) -> int | float:
    """What a fused computation writes of a result: infinity stands for all of it."""
    if made.opcode == "bitcast":
        return _written(program, computation, computation.operands(made)[0])
    if made.opcode in UPDATES:
        update = computation.operands(made)[UPDATES[made.opcode]]
        return _put(made.opcode, update.values[0])
    if made.opcode == "fusion" and len(made.values) == 1:
        inside = program.computations[made.called("calls") or ""]
        return _written(program, inside, inside.instructions[inside.root])
    handed_on = made.opcode in ("parameter", *COLLECTIVES) or _names_a_place(made)
    return 0 if handed_on else math.inf
