"""Real prose that every installation already has: the docstrings of installed packages."""

import ast
import signal
import sysconfig
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from pathlib import Path

SHORTEST = 400
"""Docstrings with fewer characters say little [characters]."""


def installed_packages() -> list[str]:
    """The standard library ("stdlib") and every package beside it that is installed, sorted."""
    root = Path(sysconfig.get_path("purelib"))
    return ["stdlib", *sorted(path.name for path in root.iterdir() if any(path.glob("*.py")))]


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
    # Processes are spawned: a fork of a process that runs jax can deadlock.
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_end_silently) as pool:
        try:
            with _interrupts_held():
                found = {name: pool.map(_of_file, own, chunksize=64) for name, own in files.items()}
            return {
                name: list(dict.fromkeys(text for texts in own for text in texts))
                for name, own in found.items()
            }
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else the pool reads all that is left
            raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds back Ctrl-C here, and in processes started here for good."""
    resource_tracker.ensure_running()  # its start would let Ctrl-C through again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_silently() -> None:
    """A worker's answer to Ctrl-C, also to one held back while it started."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _of_file(file: Path) -> list[str]:
    return list(_docstrings(file))


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
