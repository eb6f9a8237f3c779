"""The house rules: floors, no cycles, no jax in the data room."""

import ast
from pathlib import Path

import pytest

import rbs_jax

ROOT = Path(rbs_jax.__file__).parent
FLOORS = [
    {"digest", "errors", "shapes", "statistics"},
    {"files", "remote", "storage", "config_file"},
    {"sharding", "chips", "hosts"},
    {"data", "model", "objective", "optim"},
    {"convert", "suites", "choose", "checkers"},
    {"bon"},
    {"workers", "beam"},
    {"experiment", "prepare", "unfinished", "train"},
    {"score", "sample", "eval", "export", "plan"},
    {"quickstart", "model_commands", "commands", "cli", "launch", "__main__", "__init__"},
]
APART = {"data", "model", "objective"}


def imports(path):
    """Modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name, path


def room(module):
    return module.split(".")[0]


def floor(module):
    return next(i for i, names in enumerate(FLOORS) if room(module) in names)


def own_imports(path):
    return {name.removeprefix("rbs_jax.") for name in imports(path) if name.startswith("rbs_jax.")}


@pytest.mark.parametrize(("module", "path"), modules())
def test_imports_point_down(module, path):
    for imported in own_imports(path):
        assert floor(imported) <= floor(module), f"{module} imports {imported}"


def test_rooms_on_one_floor_do_not_know_each_other():
    for module, path in modules():
        if room(module) in APART:
            others = {room(name) for name in own_imports(path)} & APART - {room(module)}
            assert not others, f"{module} imports {others}"
        if room(module) == "train":
            assert "eval" not in {room(name) for name in own_imports(path)}


def test_there_is_no_cycle():
    edges = {}
    known = {module for module, _ in modules()}
    for module, path in modules():
        edges[module] = {name for name in own_imports(path) if name in known and name != module}
    while edges:
        leaves = {module for module, needs in edges.items() if not needs & set(edges)}
        assert leaves, f"cycle among {sorted(edges)}"
        edges = {module: needs for module, needs in edges.items() if module not in leaves}


def test_the_data_room_imports_no_jax():
    for module, path in modules():
        if room(module) in {"data", "shapes", "errors", "files", "remote", "storage"}:
            heavy = {name.split(".")[0] for name in imports(path)} & {
                "jax",
                "jaxlib",
                "flax",
                "optax",
            }
            assert not heavy, f"{module} imports {heavy}"


def test_files_stay_small():
    long = {
        module: n for module, path in modules() if (n := len(path.read_text().splitlines())) > 300
    }
    assert not long
