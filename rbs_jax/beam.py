"""Tasks to the workers of an Apache Beam pipeline (the extra `beam`)."""

import logging
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from rbs_jax.errors import UserError


def run_pipeline(function: Callable[[Any], Any], tasks: Sequence[Any], options: str) -> None:
    """Call a function with every task in a pipeline, and wait for its end.

    Args:
      function: importable by its name where the workers run; calls may be repeated.
      tasks: what it is called with.
      options: the pipeline's, as a command line.

    Raises:
      UserError: Beam is not installed, or the pipeline fails.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError("--beam needs Apache Beam: pip install 'rbs_jax[beam]'") from error
    for name in ("root", "apache_beam"):  # which tell of every channel that opens
        logging.getLogger(name).setLevel(logging.ERROR)
    flags = ["--default_sdk_harness_log_level=ERROR", *shlex.split(options)]
    try:
        with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
            _ = (
                pipeline
                | "Tasks" >> beam.Create(list(tasks))
                | "Spread" >> beam.Reshuffle()
                | "Work" >> beam.Map(function)
            )
    except (ValueError, SystemExit) as error:  # argparse has said more
        raise UserError(f"--beam {options}: {error}") from error
    except RuntimeError as error:  # what a worker raised, as the text of its traceback
        mistakes = re.findall(r"^rbs_jax\.[\w.]+: (.+)$", str(error), re.MULTILINE)
        said = mistakes or str(error).strip().splitlines() or ["no reason given"]
        raise UserError(f"{said[-1].split(' [while running')[0]}") from error
