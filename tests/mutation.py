"""Change the core one comparison, sign, index or constant at a time; its tests must turn red.

`python -m tests.mutation` or `make mutation`; docs/mutation.md says what is changed
and lists the survivors that are accepted. Nothing is edited in place: a mutant is a
copy of the package and its tests.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from tests.forked import TIMED_OUT, VOID, Guard, Run, in_parallel
from tests.mutants import mutants

ROOT = Path(__file__).parent.parent
TARGETS = {
    "rbs_jax/data/split.py": ("tests/data/test_split.py",),
    "rbs_jax/data/stream.py": ("tests/data/test_stream.py", "tests/data/test_stream_of_several.py"),
    "rbs_jax/data/grid.py": ("tests/data/test_grid.py",),
    "rbs_jax/data/order.py": ("tests/data/test_order.py",),
    "rbs_jax/model/attention.py": ("tests/model/test_reward.py", "tests/model/test_language.py"),
    "rbs_jax/model/reward.py": ("tests/model/test_reward.py",),
    "rbs_jax/model/softmax.py": ("tests/model/test_softmax.py",),
    "rbs_jax/model/two_parts.py": ("tests/model/test_two_parts.py",),
    "rbs_jax/objective.py": ("tests/test_objective.py",),
    "rbs_jax/train/step.py": ("tests/train/test_step.py",),
    "rbs_jax/train/tile.py": ("tests/train/test_tile.py",),
    "rbs_jax/optim.py": ("tests/test_optim.py", "tests/train/test_step.py"),
}
PAGE = "docs/mutation.md"
SPARE = 30.0  # seconds that a mutant may take beyond three times the unchanged code
CAUGHT, SURVIVED = "caught", "survived"


class Check:
    """Mutants of a few modules, and what their tests say; everything it writes is in `work`."""

    def __init__(self, root, targets, work, jobs):
        """Copies the tree: later edits change nothing."""
        self.targets, self._work, self._jobs = targets, work, jobs
        self._copy = work / "copy"
        for name in ("rbs_jax", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, self._copy / name, ignore=ignored)
        shutil.copy(root / "pyproject.toml", self._copy)

    def mutants(self, module):
        return list(mutants(module, (self._copy / module).read_text()))

    def _run(self, work, folder, modules, tests, limit, seconds):
        guard = Guard(self._work / "compiled", dict(seconds))
        return Run(work, folder, modules, tests, limit, guard)

    def _unchanged(self):
        """Tests -> (seconds they take on the unchanged copy, seconds of each); all must pass."""
        runs = []
        for i, tests in enumerate(dict.fromkeys(self.targets.values())):
            modules = {module for module in self.targets if self.targets[module] == tests}
            work = self._work / f"unchanged{i}"
            runs.append(self._run(work, self._copy, modules, tests, 3600.0, {}))
        seconds = {}
        for run, code in in_parallel(runs, self._jobs):
            if code:
                _give_up(f"{' '.join(run.tests)}: not green on the unchanged code ({code})", run)
            seconds[run.tests] = run.took, json.loads(run.work.with_suffix(".json").read_text())
        return seconds

    def outcomes(self, chosen):
        """Yield (mutant, CAUGHT, TIMED_OUT or SURVIVED) as they are known."""
        unchanged = self._unchanged()
        by_work = {self._work / f"mutant{i}": mutant for i, mutant in enumerate(chosen)}
        runs = (self._run_of(work, mutant, unchanged) for work, mutant in by_work.items())
        for run, code in in_parallel(runs, self._jobs):
            if code in VOID:
                _give_up(f"{by_work[run.work]}: was not tested ({code})", run)
            shutil.rmtree(run.folder)
            shutil.rmtree(f"{run.work}.tmp", ignore_errors=True)
            yield by_work[run.work], {0: SURVIVED, TIMED_OUT: TIMED_OUT}.get(code, CAUGHT)

    def _run_of(self, work, mutant, unchanged):
        shutil.copytree(self._copy, work)
        path = work / mutant.module
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        path.write_text(mutant.code)
        tests = self.targets[mutant.module]
        took, seconds = unchanged[tests]
        return self._run(work, work, {mutant.module}, tests, SPARE + 3 * took, seconds)


def _give_up(why, run):
    raise SystemExit(f"{run.work.with_suffix('.txt').read_text()}\n{why}")


def accepted(page):
    """The keys of survivors listed on the page, in rows | module | old | new | why |."""
    keys = set()
    for line in page.read_text().splitlines() if page.exists() else []:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)][1:-1]
        if len(cells) == 4 and cells[0].startswith("`rbs_jax/") and cells[3]:
            keys.add(tuple(cell.replace(r"\|", "|").strip("`") for cell in cells[:3]))
    return keys


def verdict(results, possible, listed, seconds):
    """What the last line says; it is well if nothing is `not_listed` or `stale`."""

    def texts(wanted):
        return [str(mutant) for mutant, outcome in results.items() if outcome == wanted]

    left = {mutant.key for mutant, outcome in results.items() if outcome == SURVIVED}
    killed = {mutant.key for mutant in results} - left
    return {
        "mutants": len(results),
        "caught": len(texts(CAUGHT)),
        "timed_out": texts(TIMED_OUT),
        "survivors": texts(SURVIVED),
        "not_listed": [" -> ".join(key) for key in sorted(left - listed)],
        "stale": [" -> ".join(key) for key in sorted(listed & killed | listed - possible)],
        "seconds": round(seconds),
    }


def show(results, said):
    """The table by module, and each mutant that is not simply caught."""
    counted = ("mutants", CAUGHT, TIMED_OUT, SURVIVED)
    print(f"{'':28}", *(f"{name:>10}" for name in counted))
    for module in dict.fromkeys(mutant.module for mutant in results):
        of_module = [outcome for mutant, outcome in results.items() if mutant.module == module]
        counts = [len(of_module), *(of_module.count(name) for name in counted[1:])]
        print(f"{module:28}", *(f"{count:>10}" for count in counts))
    for name in ("timed_out", "survivors", "not_listed", "stale"):
        for text in said[name]:
            print(f"{name}: {text}")


def options_of(argv, targets):
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", choices=targets, help="only it; repeatable")
    parser.add_argument("--line", default="", help="only changes of lines that hold this text")
    parser.add_argument("--sample", type=int, help="at most so many mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once")
    return parser.parse_args(argv)


def main(argv=None, root=ROOT, targets=TARGETS):
    options = options_of(argv, targets)
    targets = {module: targets[module] for module in options.module or targets}
    for path in (*targets, *itertools.chain(*targets.values())):
        if not (root / path).exists():
            raise SystemExit(f"{path} does not exist")
    began, results = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as work:
        check = Check(root, targets, Path(work).resolve(), options.jobs)
        every = {module: check.mutants(module) for module in targets}
        chosen = list(
            itertools.chain(*(_chosen(of_module, options) for of_module in every.values()))
        )
        tqdm.monitor_interval = 0  # it would start a thread
        for mutant, outcome in tqdm(check.outcomes(chosen), total=len(chosen), unit="mutant"):
            results[mutant] = outcome
            if outcome != CAUGHT:
                tqdm.write(f"{outcome}: {mutant}", file=sys.stderr)
    results = {mutant: results[mutant] for mutant in chosen}
    listed = {key for key in accepted(root / PAGE) if key[0] in targets}
    possible = {mutant.key for mutant in itertools.chain(*every.values())}
    said = verdict(results, possible, listed, time.monotonic() - began)
    show(results, said)
    print(json.dumps(said))
    return 1 if said["not_listed"] or said["stale"] else 0


def _chosen(of_module, options):
    found = [mutant for mutant in of_module if options.line in mutant.old]
    if options.sample is None:
        return found
    drawn = random.Random(options.seed).sample(found, min(options.sample, len(found)))
    return sorted(drawn, key=found.index)


if __name__ == "__main__":
    sys.exit(main())
