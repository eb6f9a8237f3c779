"""Tasks to the workers of an Apache Beam pipeline (the extra `beam`)."""

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
    try:
        with beam.Pipeline(options=PipelineOptions(options.split())) as pipeline:
            _ = (
                pipeline
                | "Tasks" >> beam.Create(list(tasks))
                | "Spread" >> beam.Reshuffle()
                | "Work" >> beam.Map(function)
            )
    except UserError:
        raise
    except RuntimeError as error:  # what a worker raised, as text
        raise UserError(f"the pipeline failed: {str(error).strip().splitlines()[-1]}") from error
