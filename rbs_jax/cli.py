"""`rbs`: arguments to a command, and its outcome to an exit status."""

import contextlib
import difflib
import io
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from rbs_jax.commands import COMMANDS, Command
from rbs_jax.config_file import load_value
from rbs_jax.data.recipe import Recipe
from rbs_jax.errors import Preempted, UserError
from rbs_jax.experiment import load_experiment
from rbs_jax.files import writing
from rbs_jax.hosts.failure import LOST
from rbs_jax.remote import Unreachable

Fields = TypeVar("Fields")
MISTAKE = 2
"""Exit status of a user's mistake: the same command would fail again."""
PREEMPTED = 75
"""Exit status of a run that was asked to leave and saved: the same command goes on."""


def refuse(reason: str, status: int = MISTAKE) -> int:
    """Say in one line what ends a command; returns the exit status."""
    print("rbs:", reason, file=sys.stderr)
    return status


def main(argv: Sequence[str] | None = None, refuse: Callable[[str, int], int] = refuse) -> int:
    """Run a command line; returns its exit status.

    It is 0, or 1 where a check does not hold, or MISTAKE, PREEMPTED, or LOST where a bucket
    does not answer, since later it may.

    Args:
      argv: the arguments; None for those of the program.
      refuse: called with what ends it, in one line, and the status; its result is the status.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    for library in ("absl", "asyncio"):  # orbax raises what it logs, and this says it in one line
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        if not args or args[0] in ("-h", "--help"):
            print(_overview())
            return 0
        status = parse(args).run() or 0
        with writing(Path("standard output")):
            sys.stdout.flush()
    except UserError as error:
        status = LOST if isinstance(error, Unreachable) else MISTAKE
        return refuse(" ".join(str(error).splitlines()), status)
    except OSError as error:  # what the file system refuses is the user's to mend
        return refuse(f"{error.filename or 'file system'}: {error.strerror or error}", MISTAKE)
    except Preempted as left:
        print(f"rbs: {left}; the same command goes on", file=sys.stderr)
        return PREEMPTED
    return status


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
    if name in ("train", "plan") and config is not None:  # its values are all options' defaults
        default = COMMANDS[name](config, experiment=load_experiment(config))
    if name == "prepare" and config is not None:
        recipe = load_value(config, "recipe", Recipe)
        default = COMMANDS[name]((str(config),), recipe=recipe)
    command = parsed(COMMANDS[name], _glued(rest, "--beam"), f"rbs {name}", default)
    for field, value in vars(command).items():
        if isinstance(value, Path) and str(value).partition("/")[0].endswith(":"):
            raise UserError(f"rbs {name}: {field} must be a path of this machine, not a URL")
    return command


def parsed(kind: type[Fields], args: Sequence[str], prog: str, default: Any = None) -> Fields:
    """Arguments as the fields of a dataclass.

    Raises:
      UserError: an unknown argument, or a value of the wrong kind.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                args=args,
                prog=prog,
                default=default,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(f"{_one_line(said.getvalue())}; see {prog} --help") from stop


def _glued(args: Sequence[str], option: str) -> list[str]:
    """Arguments with an option's value behind `=`, where that is options and values itself."""
    glued: list[str] = []
    for arg in args:
        if glued and glued[-1] == option and "=" in arg:
            glued[-1] = f"{option}={arg}"
        else:
            glued.append(arg)
    return glued


def _one_line(box: str) -> str:
    """What a framed message says first, and its suggestion, without frame and help texts."""
    lines = [line.strip(" │|") for line in box.splitlines() if line[:1] not in "╭╰+"]
    said, *others = re.split("[─-]{10,}", "\n".join(lines))
    if "╭" not in box:  # without Unicode, the frame's title is a paragraph of its own
        said, *others = others
    first, *rest = said.strip().splitlines()
    missing = first.startswith("Missing")  # arguments follow, each above its help text
    rest = "\n".join(rest).replace(",\n", ",").splitlines()  # a list of choices goes on
    flags = [line for line in rest if not missing or re.match(r"-|[A-Z]{2,}(?!\S)", line)]
    suggested = re.search(r"Perhaps you meant:\s+(\S+)", "\n".join(others))
    hint = f"; perhaps you meant {suggested[1]}" if suggested else ""
    return " ".join([first, *flags]).rstrip(".") + hint
