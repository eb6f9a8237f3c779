"""The subcommands of `rbs`: one a class, each calling one function.

Those that take a MODEL stand in `model_commands`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import tyro
from tyro.conf import Positional

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.model_commands import Bon, Check, Combine, Eval, Export, Report, Score


@runtime_checkable
class Command(Protocol):
    """Parsed arguments that know what to call."""

    def run(self) -> int | None:
        """Do it; a check that does not hold returns 1."""


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """The whole story on this machine in minutes, nothing downloaded."""

    out: Path | None = None
    """Folder for everything it makes; default runs/quickstart (runs/quickstart-fast if --fast)."""
    fast: bool = False
    """A first look in under a minute: the same model on less text, for a few steps."""

    def run(self) -> None:
        from rbs_jax.quickstart import quickstart

        quickstart(
            self.out or Path("runs/quickstart-fast" if self.fast else "runs/quickstart"), self.fast
        )


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Turn text into a corpus of fixed-length blocks of ids."""

    what: Positional[tuple[str, ...]]
    """SOURCE...: files, folders or globs of them, local or in a bucket; or a RECIPE.py that defines
    `recipe = Recipe(...)`."""
    out: str = ""
    """The corpus's folder, to be given: a path or a URL (s3://, gs://); must not exist."""
    strict: bool = False
    """Refuse the first document or file that cannot be read, instead of leaving it out."""
    workers: int | None = None
    """Processes; None for one a core."""
    beam: str | None = None
    """Options of a Beam pipeline whose workers do the work, as "--runner=DataflowRunner ..."."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = Recipe()
    """Any field of the recipe."""

    def run(self) -> None:
        from rbs_jax.prepare import prepare

        if not self.out:
            raise UserError("rbs prepare: give the corpus's folder with --out")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers is {self.workers}, it must be at least 1")
        recipe = self.recipe
        files = [what for what in self.what if what.endswith(".py")]
        if files and len(self.what) > 1:
            raise UserError(f"{files[0]}: beside a recipe, name other sources with --sources")
        if not files:
            recipe = dataclasses.replace(recipe, sources=(*self.what, *recipe.sources))
        if not recipe.sources:
            raise UserError("rbs prepare: no SOURCE given")
        made = prepare(recipe, self.out, self.strict, self.workers, self.beam)
        left_out = ", ".join(f"{count} {why}" for why, count in made.left_out.items()) or "none"
        lost, broken = made.left_out.get("unreadable", 0), len(made.broken_files)
        for count, what in [
            (lost, f"left out {lost} documents that cannot be read"),
            (broken, f"files that hold no document or cannot be read to their end: {broken}"),
        ]:
            if count:
                print(f"rbs: {what}; --strict refuses them", file=sys.stderr)
        print(
            f"{self.out}: {made.document_count} documents (left out: {left_out}), "
            f"{made.block_count} blocks of {made.block_length} tokens, "
            f"{made.token_count} tokens ({made.dropped_token_count} left over), "
            f"vocabulary {made.vocab_size}, fingerprint {made.fingerprint[:12]}"
        )


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a reward model; resumes by itself where the folder holds the run already."""

    config: Positional[Path]
    """A python file that defines `experiment = Experiment(...)`."""
    out: str | None = None
    """The run's folder, a path or a URL (gs://); default runs/ and the config's name."""
    profile: str | None = None
    """Steps FIRST:LAST to trace, both included, to the run's folder; TensorBoard shows it."""
    suites: tuple[str, ...] = ()
    """Benchmarks to follow, each SUITE=PATH (rbs eval): learning curves, which choose nothing."""
    suites_every: int = 100
    """Steps between measurements of them; the untrained model and the last step are measured too.
    """
    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = Experiment()
    """Any field of the config, overridden for this run."""

    def run(self) -> None:
        from rbs_jax.eval.report import heldout_table
        from rbs_jax.train.loop import train

        if self.config.suffix != ".py":
            raise UserError(f"{self.config}: a config is a .py file")
        out = (self.out or f"runs/{self.config.stem}").rstrip("/")
        watch = None
        if self.suites:
            from rbs_jax.eval.benchmark import watched

            if self.suites_every < 1:
                raise UserError(f"--suites-every is {self.suites_every}, it must be at least 1")
            watch = watched(self.suites, self.suites_every)
        result = train(self.experiment, out, self.profile, watch)
        reported = result["reported"]
        if reported is not None:
            print(f"\n{reported}")
            print(heldout_table(result[reported], result["untrained"], result["controls"]))
        print(f"{out}/result.json")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Whether a config fits a TPU pod that is not here, what bounds its step, and on which mesh."""

    config: Positional[Path]
    """A python file that defines `experiment = Experiment(...)`."""
    topology: str = ""
    """The pod, to be given: v5e:4x4 (v5p:2x2x4, v6e:8x8), or "2*v5e:4x4" for two such slices."""
    meshes: int = 3
    """How many meshes to compile for, the config's own first; each takes a minute or more."""
    utilisation: float | None = None
    """A measured share of the chip's peak, between 0 and 1: gives an estimate of the step's time
    beside its bounds."""
    out: Path | None = None
    """A file for the same figures as JSON."""
    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = Experiment()
    """Any field of the config, overridden for this plan."""

    def run(self) -> int | None:
        from rbs_jax.files import make_folder, refuse_unwritable, write_json
        from rbs_jax.plan.plan import plan
        from rbs_jax.plan.pod import parse_pod
        from rbs_jax.plan.report import page

        if self.config.suffix != ".py":
            raise UserError(f"{self.config}: a config is a .py file")
        if not self.topology:
            raise UserError("rbs plan: give the pod with --topology, as in v5e:4x4")
        if self.meshes < 1:
            raise UserError(f"--meshes is {self.meshes}, it must be at least 1")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation is {self.utilisation}, it must be above 0, at most 1")
        if self.out is not None:  # compiling takes minutes, which must not be lost
            make_folder(self.out.parent)
            refuse_unwritable(self.out)
        found = plan(self.experiment, parse_pod(self.topology), self.meshes, self.utilisation)
        print(page(found, str(self.config)), flush=True)
        if self.out is not None:
            write_json(self.out, {"config": str(self.config), **found})
        return None if found["fits"] else 1


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Look at a corpus: counts, lengths, duplicates, and pairs with their hardest negatives."""

    corpus: Positional[str]
    """What rbs prepare wrote, a path or a URL."""
    out: Path | None = None
    """Folder to write result.json and report.html, one page, to; must not exist. None to print
    alone."""
    pairs: int = 3
    """Pairs to show: the end of a prefix, its true suffix, and the negative of its grid that
    shares the most words with it."""
    split: SplitConfig = SplitConfig()
    """As in a config, for the grids to look at."""
    grid: GridConfig = GridConfig()
    """As in a config."""
    seed: int = 0
    """Seed of the order of blocks and of random breakpoints, as in a config."""

    def run(self) -> None:
        from rbs_jax.eval.inspect import inspect

        said = inspect(self.corpus, self.out, self.split, self.grid, self.seed, self.pairs)
        encoding = sys.stdout.encoding or "utf-8"  # a terminal need not know every character
        print(said.encode(encoding, "backslashreplace").decode(encoding))
        if self.out is not None:
            print(f"\n{self.out / 'result.json'}\n{self.out / 'report.html'}")


COMMANDS: dict[str, type[Any]] = {
    "quickstart": Quickstart,
    "prepare": Prepare,
    "train": Train,
    "plan": Plan,
    "score": Score,
    "eval": Eval,
    "bon": Bon,
    "combine": Combine,
    "report": Report,
    "export": Export,
    "check": Check,
    "inspect": Inspect,
}
