"""Real prose that every installation already has: the docstrings of installed packages."""

import ast
import sysconfig
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rbs_jax.data.processes import processes

SHORTEST = 400
"""Docstrings with fewer characters say little [characters]."""
FILES = 64
"""Files that a process reads at a time."""


def package_files(package: str) -> list[Path]:
    """The python files of an installed package, or of the standard library ("stdlib"), sorted."""
    if package == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        found = (p for p in root.rglob("*.py") if "site-packages" not in p.parts)
        return sorted(p for p in found if "test" not in p.parts and "tests" not in p.parts)
    return sorted((Path(sysconfig.get_path("purelib")) / package).rglob("*.py"))


def read_docstrings(packages: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The long docstrings of groups of packages, each distinct one once in its group.

    Those of modules, classes and functions, by group. Packages that are not
    installed have none. Files are parsed, never imported.
    """
    files = {
        name: [f for package in own for f in package_files(package)]
        for name, own in packages.items()
    }
    with processes() as submit:
        parts = {
            name: [submit(_of_files, own[at : at + FILES]) for at in range(0, len(own), FILES)]
            for name, own in files.items()
        }
        return {
            name: list(dict.fromkeys(text for part in own for text in part.result()))
            for name, own in parts.items()
        }


def _of_files(files: Sequence[Path]) -> list[str]:
    return [text for file in files for text in _docstrings(file)]


def _docstrings(file: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # some packages ship files for other Python versions
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) >= SHORTEST:
                # Files read as latin-1 or with escapes can hold what UTF-8 cannot.
                yield text.encode("utf-8", "replace").decode("utf-8")
