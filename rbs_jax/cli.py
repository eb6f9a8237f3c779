"""`rbs`: one subcommand a class, each calling one function."""

import contextlib
import dataclasses
import difflib
import io
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import tyro
from tyro.conf import Positional

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, load_experiment
from rbs_jax.files import writing


@runtime_checkable
class Command(Protocol):
    """Parsed arguments that know what to call."""

    def run(self) -> None:
        """Do it."""


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

    sources: Positional[tuple[str, ...]]
    """.jsonl, .jsonl.gz, .jsonl.zst, .parquet and .txt files, folders of them, or globs."""
    tokenizer: str
    """A tokenizer.json, the folder that holds one (a corpus or a run does), or train:VOCAB."""
    out: Path
    """The corpus's folder; must not exist."""
    block_length: int = 128
    """Ids of a block, at least prefix + suffix [tokens]."""
    text_field: str = "text"
    """The .jsonl field or .parquet column that holds a document's text; a .txt file is one."""
    strict: bool = False
    """Refuse the first document that cannot be read, instead of leaving it out."""

    def run(self) -> None:
        from rbs_jax.prepare import prepare

        if not self.sources:
            raise UserError("rbs prepare: no SOURCE given")
        made = prepare(
            self.sources,
            self.tokenizer,
            self.out,
            self.block_length,
            self.text_field,
            self.strict,
        )
        if lost := made.unreadable_document_count:
            print(
                f"rbs: left out {lost} documents that cannot be read; --strict refuses them",
                file=sys.stderr,
            )
        print(
            f"{self.out}: {made.document_count} documents "
            f"({made.empty_document_count} empty and {lost} unreadable ones left out), "
            f"{made.block_count} blocks of {made.block_length} tokens, "
            f"{made.token_count} tokens ({made.dropped_token_count} left over), "
            f"vocabulary {made.vocab_size}, fingerprint {made.fingerprint[:12]}"
        )


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a reward model; resumes by itself where the folder holds the run already."""

    config: Positional[Path]
    """A python file that defines `experiment = Experiment(...)`."""
    out: Path | None = None
    """The run's folder; default runs/ and the config's name."""
    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = Experiment()
    """Any field of the config, overridden for this run."""

    def run(self) -> None:
        from rbs_jax.eval.report import heldout_table
        from rbs_jax.train.loop import train

        if self.config.suffix != ".py":
            raise UserError(f"{self.config}: a config is a .py file")
        out = self.out or Path("runs") / self.config.stem
        result = train(self.experiment, out)
        reported = result["reported"]
        if reported is not None:
            print(f"\n{reported}")
            print(heldout_table(result[reported], result["untrained"], result["controls"]))
        print(f"{out / 'result.json'}")


@dataclasses.dataclass(frozen=True)
class Score:
    """Reward every response of a .jsonl file."""

    model: Positional[str]
    """A run's folder, for its newest checkpoint, or FOLDER@STEP, FOLDER@best, FOLDER@init."""
    file: Positional[Path]
    """Lines of {"prompt": str, "responses": [str, ...]}."""
    out: Path
    """The same lines with "scores": a number for each response, null for one beyond the context."""

    def run(self) -> None:
        from rbs_jax.score.files import score_file

        print(json.dumps(score_file(self.model, self.file, self.out)))


@dataclasses.dataclass(frozen=True)
class Eval:
    """Measure a model on a suite, beside its controls."""

    model: Positional[str]
    """A run's folder, for its newest checkpoint, or FOLDER@STEP, FOLDER@best, FOLDER@init."""
    suite: Positional[Literal["heldout"]]
    """heldout: true continuations against others, on a corpus."""
    data: Path
    """The suite's data; for heldout a corpus."""
    out: Path
    """Folder for result.json."""

    def run(self) -> None:
        from rbs_jax.eval.heldout import evaluate
        from rbs_jax.eval.report import heldout_table

        result = evaluate(self.model, self.data, self.out)["heldout"]
        print(heldout_table(result["test"], result["untrained"], result["controls"]))
        print(f"{self.out / 'result.json'}")


COMMANDS: dict[str, type[Any]] = {
    "quickstart": Quickstart,
    "prepare": Prepare,
    "train": Train,
    "score": Score,
    "eval": Eval,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status: 0, or 2 for a user's mistake."""
    args = list(sys.argv[1:] if argv is None else argv)
    for library in ("absl", "asyncio"):  # orbax raises what it logs, and this says it in one line
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        if not args or args[0] in ("-h", "--help"):
            print(_overview())
            return 0
        parse(args).run()
        with writing(Path("standard output")):
            sys.stdout.flush()
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:  # what the file system refuses is the user's to mend
        return _refuse(f"{error.filename or 'file system'}: {error.strerror or error}")
    return 0


def _refuse(reason: str) -> int:
    print("rbs:", " ".join(reason.splitlines()), file=sys.stderr)
    return 2


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: rbs COMMAND ...   (rbs COMMAND --help for its arguments)", "", *lines]
    )


def parse(args: Sequence[str]) -> Command:
    """The command that arguments name, with its fields.

    Raises:
      UserError: an unknown command or argument, or a value of the wrong kind.
    """
    name, *rest = args
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"perhaps {close[0]}" if close else f"there are {', '.join(COMMANDS)}"
        raise UserError(f"no command {name!r}; {hint}")
    config = next((Path(arg) for arg in rest if arg.endswith(".py")), None)
    default = None
    if name == "train" and config is not None:  # its values are the defaults of all options
        default = Train(config, experiment=load_experiment(config))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                COMMANDS[name],
                args=rest,
                prog=f"rbs {name}",
                default=default,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(f"{_one_line(said.getvalue())}; see rbs {name} --help") from stop


def _one_line(box: str) -> str:
    """What a framed message says first, and its suggestion, without frame and help texts."""
    lines = [line.strip(" │|") for line in box.splitlines() if line[:1] not in "╭╰+"]
    said, *others = re.split("[─-]{10,}", "\n".join(lines))
    if "╭" not in box:  # without Unicode, the frame's title is a paragraph of its own
        said, *others = others
    first, *rest = said.strip().splitlines()
    missing = first.startswith("Missing")  # arguments follow, each above its help text
    flags = [line for line in rest if not missing or re.match("-|[A-Z]{2,}", line)]
    suggested = re.search(r"Perhaps you meant:\s+(\S+)", "\n".join(others))
    hint = f"; perhaps you meant {suggested[1]}" if suggested else ""
    return " ".join([first, *flags]).rstrip(".") + hint
