"""Run tests in children forked from a process that has imported the heavy libraries.

The parent starts no jax backend and imports nothing of ours but this, so that a
child finds the package and its tests in the copy that it is given.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import flax.nnx  # noqa: F401  this and others only to have them imported before the fork
import grain  # noqa: F401
import hypothesis
import jax
import jaxtyping  # noqa: F401
import optax  # noqa: F401
import orbax.checkpoint  # noqa: F401
import pytest
import tensorflow_datasets  # noqa: F401
import tokenizers  # noqa: F401

BROKEN = 99
VOID = {BROKEN, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED}
TIMED_OUT = "timed out"


@dataclasses.dataclass(eq=False)
class Guard:
    """A pytest plugin: the cheapest tests first, and one compilation cache for all runs.

    The cache goes by content, so what one run compiled is right for every other.
    """

    compiled: Path
    seconds: dict[str, float]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        result = yield
        if fixturedef.argname == "compile_once":
            jax.config.update("jax_compilation_cache_dir", str(self.compiled))
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


@dataclasses.dataclass
class Run:
    """Tests in a forked child; `folder` holds the copy that they test, `work` names its output."""

    work: Path
    folder: Path
    modules: set[str]
    tests: tuple[str, ...]
    limit: float
    guard: Guard

    def start(self):
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid:
            return
        code = BROKEN
        try:
            os.setsid()
            output = os.open(self.work.with_suffix(".txt"), os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = self._test()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _test(self):
        os.chdir(self.folder)
        os.environ["PYTHONPATH"] = str(self.folder)
        sys.path.insert(0, str(self.folder))
        for name in _ours():
            del sys.modules[name]
        # One failing example is enough: it is neither kept nor made small.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutation", phases=phases, derandomize=True)
        hypothesis.settings.load_profile("mutation")
        options = ["-x", "-p", "no:cacheprovider", f"--basetemp={self.work}.tmp"]
        code = pytest.main([*options, *self.tests], plugins=[self.guard])
        self.work.with_suffix(".json").write_text(json.dumps(self.guard.seconds))
        return code if self._tested_its_copy(code) else BROKEN

    def _tested_its_copy(self, code):
        """No module from elsewhere; and tests that pass have seen the modules they guard."""
        paths = [Path(module.__file__) for module in _ours().values()]
        foreign = [path for path in paths if not path.is_relative_to(self.folder)]
        unseen = {self.folder / module for module in self.modules if not code} - set(paths)
        if foreign or unseen:
            print("from elsewhere:", *foreign, "never imported:", *unseen)
        return not (foreign or unseen)

    def ended(self):
        """None while it runs; then the exit code, or TIMED_OUT."""
        self.took = time.monotonic() - self.began
        running = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        if running and self.took < self.limit:
            return None
        self.kill()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return TIMED_OUT if running else code

    def kill(self):
        """End the child and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _ours():
    return {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] in {"rbs_jax", "tests"}
    }


def in_parallel(runs, jobs):
    """Yield (run, exit code or TIMED_OUT) as each ends; starts runs as they are drawn."""
    # jax warns of its threads, but before its first computation it has none.
    warnings.filterwarnings("ignore", message=r"os\.fork\(\)", category=RuntimeWarning)
    runs, running = iter(runs), []
    try:
        while True:
            for run in itertools.islice(runs, jobs - len(running)):
                run.start()
                running.append(run)
            if not running:
                return
            for run in list(running):
                if (code := run.ended()) is not None:
                    running.remove(run)
                    yield run, code
            time.sleep(0.02)
    finally:
        for run in running:
            run.kill()
