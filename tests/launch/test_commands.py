"""`--print-commands`: the page is shell, gcloud knows its options, what is typed arrives."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import commands, print_commands
from rented import KINDS, Rented

CONFIG = "configs/llama32_1b.py"
RUN = ["train", CONFIG]
HERE = ["--name", "run-1", "--zone", "us-west4-a", "--type", "v5litepod-16"]
WHOLE = Rented(
    *("run-1", "us-west4-a", "v5litepod-16", 2, "p-1", "gs://bucket/of mine", True, None, None),
    carry=("backbones/a b",),
)
"""Every option; one that `check` would refuse, so that all quoting is seen."""
TYPED = ["train", CONFIG, "--data.train", "gs://a/b c", 'it\'s $(touch pwned) `id` "x" *']


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


def printed(capsys, *arguments):
    status = print_commands(["--print-commands", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def gcloud_commands(page):
    """The words of each command of gcloud's."""
    lines = [line.removesuffix("\\") for line in page.splitlines() if not line.startswith("#")]
    lexer = shlex.shlex(" ; ".join(lines), posix=True, punctuation_chars=";|&()<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found = [[]]
    for word in lexer:
        if word == "gcloud" or set(word) <= set(";|&()<>"):
            found.append([])
        found[-1].append(word)
    return [words for words in found if words and words[0] == "gcloud"]


def test_the_page_has_every_step_and_no_more_than_it_needs(capsys):
    status, page, _ = printed(capsys, *HERE, "--bucket", "gs://bucket", "--", *RUN)
    assert status == 0
    verbs = ["buckets create", "queued-resources create", "describe", "scp", "ssh", "delete"]
    assert all(f" {verb} " in page for verb in verbs)
    assert "16 chips" in page
    assert "--runtime-version=v2-alpha-tpuv5-lite" in page
    assert f"{CONFIG} --out gs://bucket/runs/run-1 " in page, "the run is where hosts share it"
    assert "gs://bucket/runs/run-1/heartbeat.json" in page
    assert "--spot" not in page
    assert "--node-count" not in page
    assert "--project" not in page
    commands_of = page.split("\n\n")[1:]
    assert [text.splitlines()[0].split(".")[0] for text in commands_of] == [
        f"# {number}" for number in range(1, len(commands_of) + 1)
    ]


def test_every_option_is_in_it():
    page = commands(WHOLE, RUN)
    assert page.count("--zone=us-west4-a --project=p-1") == page.count("queued-resources")
    for part in ("--node-count=2 --node-prefix=run-1", "--spot", "32 chips", "backbones/a b"):
        assert part in page
    assert "git clone" not in page
    cloned = commands(Rented("r", "us-a1-a", "v6e-4", repo="https://x/y.git"), ["eval", "x"])
    assert "git clone --quiet https://x/y.git rbs_jax" in cloned
    assert "git ls-files" not in cloned
    assert "storage" not in cloned, "no bucket, no run"


@pytest.mark.parametrize(("typed", "chips"), [("v4-32", 16), ("v5p-8", 4), ("v6e-256", 256)])
def test_chips_are_counted_as_google_counts_them(capsys, typed, chips):
    place = ["--name", "a", "--zone", "europe-west4-b", "--type", typed, "--bucket", "gs://bucket"]
    status, page, _ = printed(capsys, *place, "--", *RUN)
    assert (status, f" {chips} chips" in page) == (0, True)
    assert f"--runtime-version={KINDS[typed.partition('-')[0]].runtime} " in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*HERE, "--bucket", "gs://b-1"], "give the run behind --"),
        ([*HERE, "--bucket", "gs://b-1", "--"], "give the run behind --"),
        ([*HERE, "--bucket", "gs://b-1", "--", "trian", CONFIG], "perhaps train"),
        ([*HERE, "--bucket", "gs://b-1", "--", "train", "no.py"], "no.py"),
        ([*HERE, "--bucket", "gs://b-1", "--", *RUN, "--grid.prefixs", "3"], "--grid.prefixs"),
        ([*HERE, "--", *RUN], "give --bucket, or --out gs://"),
        ([*HERE, "--bucket", "gs://b-1", "--", *RUN, "--out", "runs/a"], "hosts share no disk"),
        ([*HERE[:4], "--", *RUN], "--type"),
        ([*HERE, "--zones", "a", "--", *RUN], "perhaps you meant --zone"),
        ([*HERE, "--name", "Run", "--", *RUN], "--name Run: give small letters"),
        ([*HERE, "--zone", "us-west4", "--", *RUN], "--zone us-west4: give a zone"),
        ([*HERE, "--type", "v5e-16", "--", *RUN], "--type v5e-16: give v4-N, v5litepod-N"),
        ([*HERE, "--type", "v6e-12", "--", *RUN], "N of v6e-N is one of 1, 4, 8"),
        ([*HERE, "--type", "v5p-12", "--", *RUN], "N of v5p-N is one of 8, 16, ... 12288"),
        ([*HERE, "--type", "v4-16384", "--", *RUN], "N of v4-N is one of 8, 16, ... 8192"),
        ([*HERE, "--bucket", "bucket", "--", *RUN], "--bucket bucket: give gs://BUCKET"),
        ([*HERE, "--slices", "0", "--", *RUN], "--slices 0: give 1 to 256"),
        ([*HERE, "--carry", "a", "--", *RUN], "--carry a: give a folder in this checkout, and"),
        ([*HERE, "--bucket", "gs://b-1", "--carry", "../a", "--", *RUN], "--carry ../a"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, said):
    status, page, error = printed(capsys, *arguments)
    assert (status, page) == (2, "")
    assert said in error
    assert error.startswith("rbs: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("checker", ["bash -n", "shellcheck --shell=bash --exclude=SC2016"])
def test_it_is_shell(checker, tmp_path):
    program, *options = checker.split()
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    for number, (rented, command) in enumerate([(WHOLE, TYPED), (WHOLE, ["eval", "x"])]):
        page = tmp_path / f"{number}.sh"
        page.write_text(commands(rented, command))
        done = subprocess.run(
            [program, *options, page], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


# A worker is a folder; what is run there by ssh is run by a shell in it.
GCLOUD = """#!/bin/bash
printf "%s\n" "$@" >"$WORKER/gcloud"
for word in "$@"; do case $word in
--command=*) cd "$WORKER" && exec bash -c "${word#*=}";;
esac; done
"""
PYTHON = """#!/bin/bash
exec {python} -c 'import json, sys; open("argv", "w").write(json.dumps(sys.argv[1:]))' "$@"
"""


@pytest.fixture
def worker(tmp_path):
    """A folder that is a worker's home, and what runs a printed command with it."""
    binaries, home = tmp_path / "bin", tmp_path / "worker"
    for path, text in {
        binaries / "gcloud": GCLOUD,
        home / "rbs_jax/.venv/bin/python": PYTHON.format(python=shutil.which("python3")),
    }.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    (home / "rbs_jax/launch").symlink_to(Path("launch").resolve())

    def run(mark):
        (text,) = [text for text in commands(WHOLE, TYPED).split("\n\n") if mark in text]
        environment = {"WORKER": str(home), "PATH": f"{binaries}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-e", "-c", text], env=environment, check=True, timeout=30)

    return home, run


def test_what_is_typed_arrives_on_the_workers(worker):
    home, run = worker
    run("again.pid; }")
    started = (home / "rbs_jax/logs/again.pid").read_text().strip()
    ended = "while kill -0 $0; do sleep 0.05; done 2>/dev/null"
    subprocess.run(["bash", "-c", ended, started], check=True, timeout=30)
    assert (home / "rbs_jax/logs/again.log").read_text() == ""
    compiled = "--compiled=gs://bucket/of mine/compiled"
    out = ["--out", "gs://bucket/of mine/runs/run-1"]
    assert json.loads((home / "rbs_jax/argv").read_text()) == [
        *("launch/tpu.py", compiled, *TYPED, *out)
    ]
    assert not list(home.rglob("pwned"))


def test_a_carried_folder_comes_to_its_own_place(worker):
    home, run = worker
    run("Get backbones/a b there")
    here, there = "rbs_jax/backbones/a b", "gs://bucket/of mine/backbones/a b"
    assert (home / here).is_dir()
    said = (home / "gcloud").read_text().splitlines()
    assert said == ["storage", "rsync", there, here, "--recursive"]


def test_waiting_ends_with_chips_or_without(tmp_path):
    states = tmp_path / "states"
    fake = tmp_path / "gcloud"
    fake.write_text('#!/bin/bash\nhead -n 1 "$STATES"; sed -i 1d "$STATES"\n')
    fake.chmod(0o755)
    (wait,) = [text for text in commands(WHOLE, RUN).split("\n\n") if "while state" in text]
    for last in ("ACTIVE", "FAILED", "SUSPENDED"):
        states.write_text(f"WAITING_FOR_RESOURCES\nPROVISIONING\n{last}\nNEVER\n")
        done = subprocess.run(
            ["bash", "-c", f"sleep() {{ :; }}\n{wait}"],
            env={"STATES": str(states), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert done.stdout.split()[-1] == last
        assert states.read_text() == "NEVER\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="no gcloud")
def test_gcloud_knows_every_kind_of_command_and_its_options():
    """By its own parser, which asks no one."""
    typed = gcloud_commands(commands(WHOLE, RUN))
    kinds = {
        tuple(word.split("=")[0] for word in words if word[:1] == "-"): words for words in typed
    }
    wrong = [*typed[2], "--bogus"]
    for words in [*kinds.values(), wrong]:
        lint = ["gcloud", "meta", "lint-gcloud-commands", f"--command-string={shlex.join(words)}"]
        (found,) = json.loads(subprocess.run(lint, capture_output=True, check=False).stdout)
        assert found["success"] == (words is not wrong), (words, found.get("error_message"))
