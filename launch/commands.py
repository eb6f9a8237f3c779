"""`launch/tpu.py --print-commands`: a TPU run on Google Cloud as shell commands, first to last.

Nothing here talks to Google Cloud. gcloud's own parser accepts the commands
(tests/launch/test_commands.py); none of them was ever run there.
"""

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rented import KINDS, Rented, parsed

from rbs_jax.cli import refuse
from rbs_jax.errors import UserError

FOLDER = "rbs_jax"
"""Of the code, in the home of every worker."""
HEARD = ("", "/heartbeat.json", "/metrics.jsonl")
"""What a run's folder is asked for."""


def print_commands(argv: Sequence[str]) -> int:
    """Print the commands for `--name ... -- SUBCOMMAND ...`; returns the exit status, 0 or 2."""
    try:
        text = commands(*parsed(argv))
    except UserError as error:
        return refuse(str(error))
    print(text)
    return 0


def commands(rented: Rented, command: Sequence[str]) -> str:
    """The shell commands of a run, in order, each below a comment that says what it does.

    Raises:
      UserError: the run would be kept on a disk that its hosts do not share.
    """
    command, out = with_out(rented, command)
    lines = [
        "# Commands for a terminal in this checkout, one after another. Not run on Google Cloud by",
        "# its authors: read what gcloud answers.",
        f"# {rented.type} x {rented.slices}: {rented.chips} chips.",
    ]
    for number, (comment, text) in enumerate(_steps(rented, command, out), 1):
        lines += ["", f"# {number}. {comment}", text]
    return "\n".join(lines)


def with_out(rented: Rented, command: Sequence[str]) -> tuple[list[str], str | None]:
    """A subcommand whose output is in the bucket, and where; of others than train, as it is.

    Raises:
      UserError: a run's folder is not in a bucket.
    """
    given = None
    for arg, following in zip(command, [*command[1:], ""], strict=True):
        if arg == "--out" or arg.startswith("--out="):
            given = following if arg == "--out" else arg.removeprefix("--out=")
    if command[0] != "train":
        return list(command), given
    if given is None and rented.bucket is not None:
        out = f"{rented.bucket}/runs/{rented.name}"
        return [*command, "--out", out], out
    if given is None or not given.startswith("gs://"):
        raise UserError("--print-commands: give --bucket, or --out gs://...: hosts share no disk")
    return list(command), given


class Step(NamedTuple):
    """A command, and the comment above it."""

    comment: str
    command: str


def _steps(rented: Rented, command: Sequence[str], out: str | None) -> list[Step]:
    return [
        *_to_bucket(rented),
        *_chips(rented),
        *_installed(rented),
        *_run(rented, command),
        *_figures(rented, out),
        Step(
            "To end it early: a checkpoint is saved, and the start above goes on from it.",
            _on_every_worker(rented, f"kill $(cat {FOLDER}/logs/again.pid)"),
        ),
        Step(
            "Delete, or it costs on. After a preemption as well: then from the asking for chips "
            "on, all again; the run goes on from its last checkpoint.",
            _gcloud(rented, "delete", rented.name, "--force"),
        ),
    ]


def _gcloud(rented: Rented, verb: str, *arguments: str) -> str:
    where = [f"--zone={rented.zone}"]
    where += [f"--project={rented.project}"] if rented.project else []
    return shlex.join(["gcloud", "compute", "tpus", "queued-resources", verb, *arguments, *where])


def _on_every_worker(rented: Rented, script: str) -> str:
    all_of_them = ("--node=all", "--worker=all", f"--command={script}")
    return _gcloud(rented, "ssh", rented.name, *all_of_them)


def _to_bucket(rented: Rented) -> Iterator[Step]:
    if rented.bucket is None:
        return
    bucket = "/".join(rented.bucket.split("/")[:3])
    where = [f"--location={rented.zone.rpartition('-')[0]}", "--uniform-bucket-level-access"]
    where += [f"--project={rented.project}"] if rented.project else []
    yield Step(
        "Make the bucket, in the chips' region, if it is not there.",
        f"gcloud storage buckets describe {bucket} >/dev/null 2>&1 || "
        f"gcloud storage buckets create {bucket} {shlex.join(where)}",
    )
    for folder in rented.carry:
        copy = ["gcloud", "storage", "rsync", folder, f"{rented.bucket}/{folder}", "--recursive"]
        yield Step(f"Put {folder} into it.", shlex.join(copy))


def _chips(rented: Rented) -> Iterator[Step]:
    name, kind = rented.name, KINDS[rented.type.partition("-")[0]]
    nodes = [f"--node-id={name}"]
    if rented.slices > 1:
        nodes = [f"--node-count={rented.slices}", f"--node-prefix={name}"]
    wanted = [f"--accelerator-type={rented.type}"]
    wanted += [f"--runtime-version={rented.runtime or kind.runtime}"]
    wanted += ["--spot"] if rented.spot else []
    yield Step("Ask for the chips.", _gcloud(rented, "create", name, *nodes, *wanted))
    state = _gcloud(rented, "describe", name, "--format=value(state.state)")
    yield Step(
        "Wait for ACTIVE, minutes to days. FAILED or SUSPENDED: delete, and ask again.",
        f'while state=$({state}); do echo "$state"; '
        "case $state in ACTIVE | FAILED | SUSPENDED) break ;; esac; sleep 30; done",
    )


def _installed(rented: Rented) -> Iterator[Step]:
    if rented.repo is not None:
        clone = shlex.join(["git", "clone", "--quiet", rented.repo, FOLDER])
        script = f"if [ -d {FOLDER} ]; then git -C {FOLDER} pull --quiet; else {clone}; fi"
        yield Step("Put the code on every worker.", _on_every_worker(rented, script))
    else:
        packed = f"/tmp/{rented.name}.tar.gz"
        to = (f"{rented.name}:{packed}", "--node=all", "--worker=all")
        yield Step(
            "Put this checkout's files on every worker, without those that git ignores.",
            "git ls-files -z --cached --others --exclude-standard | "
            f"tar --null --files-from=- --ignore-failed-read -czf {packed} && \\\n"
            f"{_gcloud(rented, 'scp', packed, *to)} && \\\n"
            f"{_on_every_worker(rented, f'mkdir -p {FOLDER} && tar -xzf {packed} -C {FOLDER}')}",
        )
    pip = "python3 -m uv pip install --quiet --python .venv"
    yield Step(
        "Install, in a Python 3.11 of its own, with the libtpu that the pinned jax asks for.",
        _on_every_worker(
            rented,
            f"cd {FOLDER} && python3 -m pip install --quiet --user uv && "
            "python3 -m uv venv --quiet --allow-existing --python 3.11 .venv && "
            f"{pip} -r requirements-cloud.txt -r requirements-tpu.txt && {pip} --no-deps -e .",
        ),
    )
    for folder in rented.carry:
        here = shlex.quote(f"{FOLDER}/{folder}")
        source = shlex.quote(f"{rented.bucket}/{folder}")
        script = f"mkdir -p {here} && gcloud storage rsync {source} {here} --recursive"
        yield Step(f"Get {folder} there.", _on_every_worker(rented, script))


def _run(rented: Rented, command: Sequence[str]) -> Iterator[Step]:
    launched = [".venv/bin/python", "launch/tpu.py"]
    launched += [f"--compiled={rented.bucket}/compiled"] if rented.bucket else []
    yield Step(
        "Start it on every worker, in the background; launch/again.sh starts again what fails.",
        _on_every_worker(
            rented,
            f"cd {FOLDER} && mkdir -p logs && {{ nohup launch/again.sh "
            f"{shlex.join([*launched, *command])} >logs/again.log 2>&1 </dev/null & "
            "echo $! >logs/again.pid; }",
        ),
    )
    watch = f"--command=tail -n 50 -F {FOLDER}/logs/process-0.log"
    yield Step(
        "Watch the first worker; Ctrl-C ends the watching, not the run.",
        _gcloud(rented, "ssh", rented.name, "--node=0", "--worker=0", watch),
    )
    yield Step(
        "Every worker's last words.", _on_every_worker(rented, f"tail -n 5 {FOLDER}/logs/*.log")
    )


def _figures(rented: Rented, out: str | None) -> Iterator[Step]:
    if out is None or not out.startswith("gs://"):
        return
    here = f"runs/{rented.name}"
    run, heart, metrics = (shlex.quote(out + file) for file in HEARD)
    copy = f"mkdir -p {here} && gcloud storage rsync"
    yield Step(
        "When the last step was, and its figures.",
        f"gcloud storage cat {heart} && gcloud storage cat {metrics} | tail -n 3",
    )
    yield Step(
        "The curves.",
        f"{copy} --exclude='checkpoints/.*' {run} {here} --recursive && "
        f"tensorboard --logdir={here}",
    )
    yield Step("The whole run, checkpoints too.", f"{copy} {run} {here} --recursive")
