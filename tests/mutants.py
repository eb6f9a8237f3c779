"""Every change of one comparison, sign, index or constant in a module's source."""

import ast
import dataclasses
import itertools
import re
from collections import Counter

SWAPS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
DROPS = {ast.USub: "-", ast.Invert: "~", ast.Not: "not "}
NEGATED_BY_THEIR_OWN = (ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change; module, old and new line name it, however the lines around it move."""

    module: str
    old: str
    new: str
    line: int
    code: str

    @property
    def key(self):
        return self.module, self.old, self.new

    def __str__(self):
        return f"{self.module}:{self.line}: {self.old} -> {self.new}"


def mutants(module, code):
    """Every mutant of a module's source."""
    starts = [0, *itertools.accumulate(len(line.encode()) for line in code.splitlines(True))]
    raw = code.encode()

    def place(node):
        start = starts[node.lineno - 1] + node.col_offset
        return start, starts[node.end_lineno - 1] + node.end_col_offset

    seen = Counter()
    for start, end, text in sorted(
        edit for node in _nodes(ast.parse(code)) for edit in _edits(node, place, raw)
    ):
        first, last = raw.rfind(b"\n", 0, start) + 1, (raw + b"\n").find(b"\n", end)
        before, after = raw[first:last], raw[first:start] + text.encode() + raw[end:last]
        old, new = (" ".join(line.decode().split()) for line in (before, after))
        seen[old, new] += 1
        if seen[old, new] > 1:
            old += f"  # again, {seen[old, new]}"
        changed = (raw[:first] + after + raw[last:]).decode()
        yield Mutant(module, old, new, raw.count(b"\n", 0, start) + 1, changed)


def _nodes(node):
    """All nodes but annotations, decorators, defaults of fields, what is raised, and f-strings."""
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return
    yield node
    for name, child in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for inner in child if isinstance(child, list) else [child]:
            is_field = isinstance(node, ast.ClassDef) and isinstance(inner, ast.AnnAssign)
            if isinstance(inner, ast.AST) and not is_field:
                yield from _nodes(inner)


def _edits(node, place, raw):
    """(start, end, new text) of each change to this node itself."""

    def swapped(op, left, right):
        """The operator stands between its sides, perhaps after a bracket or comment."""
        if type(op) in SWAPS:
            old, new = SWAPS[type(op)]
            between = raw[place(left)[1] : place(right)[0]]
            skipped = re.match(rb"(?:[\s)\\]|#[^\n]*\n)*", between).end()
            assert between[skipped:].startswith(old.encode()), between
            start = place(left)[1] + skipped
            yield start, start + len(old), new

    def negated(test):
        own = isinstance(test, ast.Compare) and isinstance(test.ops[0], NEGATED_BY_THEIR_OWN)
        if not own and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            start, end = place(test)
            yield start, end, f"not ({raw[start:end].decode()})"

    match node:
        case ast.Compare():
            sides = [node.left, *node.comparators]
            for op, (left, right) in zip(node.ops, itertools.pairwise(sides), strict=True):
                yield from swapped(op, left, right)
        case ast.BoolOp():
            for left, right in itertools.pairwise(node.values):
                yield from swapped(node.op, left, right)
        case ast.BinOp():
            yield from swapped(node.op, node.left, node.right)
        case ast.AugAssign():
            yield from swapped(node.op, node.target, node.value)
        case ast.UnaryOp() if type(node.op) in DROPS:
            yield place(node)[0], place(node)[0] + len(DROPS[type(node.op)]), ""
        case ast.Constant(value=bool() | int() | float()):
            yield *place(node), _other(node.value)
        case ast.If() | ast.IfExp() | ast.While():
            yield from negated(node.test)
        case ast.comprehension():
            for test in node.ifs:
                yield from negated(test)


def _other(value):
    if isinstance(value, bool):
        return str(not value)
    return str(value + 1) if isinstance(value, int) else repr(2 * value or 1.0)
