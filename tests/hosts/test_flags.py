"""Flags: the user's come first, and each of ours is known to the compiler and no default."""

import os
import re
import subprocess
import sys

import pytest

from rbs_jax.hosts import flags
from rbs_jax.hosts.flags import GPU, TPU, Flag, set_flags

ONE, TWO = Flag("xla_one", "true", "a reason"), Flag("xla_two", "3", "a reason")


@pytest.fixture
def two_flags(monkeypatch):
    monkeypatch.setattr(flags, "VARIABLES", (("LIBTPU_INIT_ARGS", (ONE, TWO)), ("NONE", ())))


@pytest.mark.parametrize(
    ("given", "then"),
    [
        (None, "--xla_one=true --xla_two=3"),
        ("", "--xla_one=true --xla_two=3"),
        ("--xla_two=4", "--xla_two=4 --xla_one=true"),
        ("--xla_two", "--xla_two --xla_one=true"),
        (
            "--xla_two_more=1  --a=xla_one",
            "--xla_two_more=1 --a=xla_one --xla_one=true --xla_two=3",
        ),
        ("--xla_one=false --xla_two=1", "--xla_one=false --xla_two=1"),
    ],
)
def test_what_the_user_has_set_stays(two_flags, given, then):
    environ = {} if given is None else {"LIBTPU_INIT_ARGS": given}
    set_flags(environ)
    assert environ == {"LIBTPU_INIT_ARGS": then}
    set_flags(environ)
    assert environ == {"LIBTPU_INIT_ARGS": then}, "once is enough"


def test_each_compiler_has_its_variable():
    environ = {}
    set_flags(environ)
    assert set(environ) == {"XLA_FLAGS"}, "there is none for TPU"
    assert environ["XLA_FLAGS"] == " ".join(f"--{flag.name}={flag.value}" for flag in GPU)


def test_every_flag_has_a_reason():
    for flag in (*TPU, *GPU):
        assert len(flag.reason) > 40
        assert re.fullmatch(r"(xla|megascale)_\w+", flag.name)


def test_jaxlib_knows_the_gpu_flags_and_has_other_defaults(tmp_path):
    """What it dumps of its options is what differs from their defaults."""
    environ = {"XLA_FLAGS": f"--xla_dump_to={tmp_path}", "JAX_PLATFORMS": "cpu"}
    set_flags(environ)
    program = "import jax; jax.jit(lambda x: x + 1)(1.0)"
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **environ}, check=True)
    said = "".join(path.read_text() for path in tmp_path.glob("*debug_options"))
    assert "xla_dump_to" in said
    for flag in GPU:
        assert f"{flag.name}: {flag.value}" in said
