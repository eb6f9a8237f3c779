"""`python -m rbs_jax` is `rbs`."""

from rbs_jax.cli import run

run()
