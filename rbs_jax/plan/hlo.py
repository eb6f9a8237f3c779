"""The text of a compiled program (XLA's HLO), and how often each of its instructions runs.

XLA's own cost analysis counts a loop's body once, whatever its length; here each
instruction comes with the product of the lengths of the loops around it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
OPENING = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
ASSIGNED = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
NAME = re.compile(r"%([\w.\-]+)")
COPIES = ("bitcast", "convert", "copy", "copy-done", "copy-start")
SUBROUTINES = {"call": "to_apply", "fusion": "calls", "async-start": "calls"}


class Value(NamedTuple):
    """One array that an instruction makes."""

    dtype: str
    shape: tuple[int, ...]
    space: int
    """The memory it lies in: 0 is the chip's main memory, others are faster and small."""

    @property
    def size(self) -> int:
        """Elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def bytes(self) -> int:
        """Without a layout's padding; tokens and the like have none."""
        if self.dtype == "pred":
            return self.size
        bits = re.match(r"(?:bf|f|s|u|c)(\d+)", self.dtype)
        return -(-self.size * int(bits[1]) // 8) if bits else 0


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    opcode: str
    values: tuple[Value, ...]
    """What it makes; a tuple's arrays one after another."""
    operands: tuple[str, ...]
    attributes: str
    """What stands behind the operands; of a constant or parameter, its argument before that."""

    @property
    def bytes(self) -> int:
        """Of all its values."""
        return sum(value.bytes for value in self.values)

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None


class Computation(NamedTuple):
    """A function of the program: its instructions by name, in order."""

    name: str
    instructions: dict[str, Instruction]
    root: str

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """The instructions whose values one reads."""
        return [self.instructions[name] for name in instruction.operands]


class Program(NamedTuple):
    """A compiled module."""

    computations: dict[str, Computation]
    entry: Computation


class Run(NamedTuple):
    """An instruction where it runs."""

    instruction: Instruction
    computation: Computation
    """Where it stands; of a fused instruction, the fusion's own."""
    scope: Computation
    """The computation whose turn it is: the entry or a loop's body, never a fusion's."""
    times: int
    """How often a step runs it."""

    @property
    def is_fused(self) -> bool:
        """Whether it is part of a fusion, so that not all its values ever reach memory."""
        return self.computation is not self.scope


def parse(text: str) -> Program:
    """The program that `jax.stages.Compiled.as_text` prints."""
    computations: dict[str, Computation] = {}
    entry = name = root = ""
    instructions: dict[str, Instruction] = {}
    for line in text.splitlines():
        if opening := OPENING.match(line):
            name, root, instructions = opening[2], "", {}
            entry = name if opening[1] else entry
        elif line == "}":  # a kernel's own settings may have lines that begin with one
            computations[name] = Computation(name, instructions, root)
            name = ""
        elif name and (assigned := ASSIGNED.match(line)):
            instruction = _instruction(assigned[2], assigned[3])
            instructions[instruction.name] = instruction
            root = instruction.name if assigned[1] else root
    return Program(computations, computations[entry])


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opening = rest.index("(", end)
    closing = _closing(rest, opening)
    opcode, arguments = rest[end:opening].strip(), rest[opening + 1 : closing]
    attributes = rest[closing + 1 :]
    if opcode in ("constant", "parameter"):
        return Instruction(name, opcode, _values(rest[:end]), (), arguments + attributes)
    operands = tuple(NAME.findall(arguments))
    return Instruction(name, opcode, _values(rest[:end]), operands, attributes)


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis closes that opens at a place."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    raise ValueError(f"no closing parenthesis: {text[:200]}")


def _values(text: str) -> tuple[Value, ...]:
    found = []
    for dtype, lengths, layout in ARRAY.findall(text):
        shape = tuple(int(length.lstrip("<=")) for length in lengths.split(",") if length)
        space = re.search(r"S\((\d+)\)", layout)
        found.append(Value(dtype, shape, int(space[1]) if space else 0))
    return tuple(found)


def runs(program: Program) -> Iterator[Run]:
    """Every instruction that a step runs, with how often; of a branch, both sides.

    A loop whose length cannot be told counts once; `unknown_loops` names them.
    """
    yield from _runs(program, program.entry, program.entry, 1)


def _runs(
    program: Program, computation: Computation, scope: Computation, times: int
) -> Iterator[Run]:
    for instruction in computation.instructions.values():
        yield Run(instruction, computation, scope, times)
        if instruction.opcode == "while":
            body = program.computations[instruction.called("body") or ""]
            length = loop_length(program, computation, instruction)
            yield from _runs(program, body, body, times * (1 if length is None else length))
        elif instruction.opcode == "conditional":
            for name in _branches(instruction):
                branch = program.computations[name]
                yield from _runs(program, branch, branch, times)
        elif attribute := SUBROUTINES.get(instruction.opcode):
            called = program.computations[instruction.called(attribute) or ""]
            inside = scope if instruction.opcode == "fusion" else called
            yield from _runs(program, called, inside, times)


def _branches(instruction: Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    if listed:
        return NAME.findall(listed[1])
    sides = (instruction.called(f"{side}_computation") for side in ("true", "false"))
    return [side for side in sides if side]


def unknown_loops(program: Program) -> list[str]:
    """The loops that run, of a length that cannot be told."""
    return [
        run.instruction.name
        for run in runs(program)
        if run.instruction.opcode == "while"
        and loop_length(program, run.computation, run.instruction) is None
    ]


def loop_length(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """How often a loop's body runs: as XLA notes it, or read from its counter; None if neither.

    A counter starts at a constant, grows by a constant, and is compared with a constant.
    """
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes):
        return int(noted[1])
    condition = program.computations[loop.called("condition") or ""]
    body = program.computations[loop.called("body") or ""]
    test = condition.instructions[condition.root]
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
        return None
    counter, limit = condition.operands(test)
    index, stop = _index(counter), _constant(condition, limit)
    if index is None or stop is None:
        return None
    start = _element(computation, computation.operands(loop)[0], index)
    grown = _element(body, body.instructions[body.root], index)
    if start is None or grown is None or grown.opcode != "add":
        return None
    terms = [_origin(body, term) for term in body.operands(grown)]
    steps = [value for term in terms if (value := _constant(body, term))]
    first = _constant(computation, start)
    if index not in map(_index, terms) or not steps or first is None:
        return None
    return max(-(-(stop - first) // steps[0]), 0)


def _origin(computation: Computation, instruction: Instruction) -> Instruction:
    """What a value is a copy of."""
    while instruction.opcode in COPIES:
        instruction = computation.operands(instruction)[0]
    return instruction


def _index(instruction: Instruction) -> int | None:
    found = re.search(r"\bindex=(\d+)", instruction.attributes)
    return int(found[1]) if instruction.opcode == "get-tuple-element" and found else None


def _element(computation: Computation, whole: Instruction, index: int) -> Instruction | None:
    """What a tuple holds at a place."""
    return computation.operands(whole)[index] if whole.opcode == "tuple" else None


def _constant(computation: Computation, instruction: Instruction) -> int | None:
    """The integer that an instruction is."""
    origin = _origin(computation, instruction)
    value = re.match(r"-?\d+\b", origin.attributes)
    return int(value[0]) if origin.opcode == "constant" and value else None
