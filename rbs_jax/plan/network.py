"""What a compiled program sends between chips, loops included."""

import math
import re
from typing import NamedTuple

from rbs_jax.plan.hlo import Program, Run, Value, runs

SHARES = {
    "all-gather": lambda peers: peers - 1,
    "all-reduce": lambda peers: 2 * (peers - 1) / peers,
    "reduce-scatter": lambda peers: (peers - 1) / peers,
    "all-to-all": lambda peers: (peers - 1) / peers,
    "ragged-all-to-all": lambda peers: (peers - 1) / peers,
}
"""Of a device's operand, what it must send, at least, among so many devices."""
PAIRWISE = ("collective-permute", "collective-broadcast")
"""What sends the whole operand, once."""
SCATTERED = "all-reduce-scatter"
"""A TPU's fusion of an all-reduce with the slice that a chip keeps is called so: the rest is never
sent (its emitter is AllReduceScatterFusion)."""
BETWEEN = "slices "
"""Stands before the kinds of what goes from slice to slice."""


class Traffic(NamedTuple):
    """Collectives of one kind in a step."""

    times: int
    bytes: int
    """What each chip sends, and receives as much."""


def collectives(program: Program, slices: int = 1) -> dict[str, Traffic]:
    """By kind; those between slices have BETWEEN before theirs.

    A collective that runs beside other work appears in several fusions, a link of its
    chain in each: it counts once.
    """
    found: dict[str, Traffic] = {}
    begun = set()
    for run in runs(program):
        kind, share = _sent(run, slices)
        if kind is None or not share:
            continue
        if (chain := _chain(run)) is not None and chain in begun:
            continue
        begun.add(chain)
        sent = sum(operand.bytes for operand in _operands(run))
        times, total = found.get(kind, (0, 0))
        found[kind] = Traffic(times + run.times, total + run.times * round(share * sent))
    return dict(sorted(found.items()))


def _chain(run: Run) -> tuple[str, str] | None:
    """What the parts of one collective share where it runs."""
    chain = re.search(r'chain_id="(\d+)"', run.instruction.attributes)
    return (run.scope.name, chain[1]) if run.is_fused and chain else None


def _operands(run: Run) -> list[Value]:
    return [
        value for operand in run.computation.operands(run.instruction) for value in operand.values
    ]


def _sent(run: Run, slices: int) -> tuple[str | None, int | float]:
    """The kind of a collective, and what part of its operand a chip sends; else no kind."""
    instruction = run.instruction
    kind = instruction.opcode.removesuffix("-start")
    if kind == "all-reduce" and run.computation.name.startswith(SCATTERED):
        kind = "reduce-scatter"
    if kind in PAIRWISE:
        return kind, 1
    if kind in SHARES:
        return kind, SHARES[kind](peers(instruction.attributes))
    transfer = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes)
    if instruction.opcode != "send" or transfer is None:
        return None, 0
    across = transfer[1].lower().replace("_", "-")
    return BETWEEN + across, SHARES[across](slices) if across in SHARES else 1


def peers(attributes: str) -> int:
    """How many devices exchange in each group of a collective.

    Groups are listed {{0,1},{2,3}}, or counted [2,2]<=[4], or axes of a mesh,
    mesh['x'=2,'y'=2] {'y'}, of which one may be taken in part, {'x':(1)2}.

    Raises:
      ValueError: they are written in another way.
    """
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return listed[1].count(",") + 1
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(counted[1])
    named = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(.*?\)\))? \{([^}]*)\}", attributes
    )
    if named is None:
        raise ValueError(f"no groups of devices can be read: {attributes[:200]}")
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
    taken = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
    return math.prod(int(part or sizes[axis]) for axis, part in taken)
