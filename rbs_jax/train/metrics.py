"""What a run says while it runs: metrics.jsonl, and a progress bar or plain lines."""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from tqdm import tqdm

from rbs_jax.data.stream import Work
from rbs_jax.errors import UserError
from rbs_jax.files import write_atomic, writing

SPEEDS = (
    *("pairs_per_second", "unique_tokens_per_second", "tokens_per_second"),
    *("flops_per_second", "mfu"),
    *("data_wait_share", "checkpoint_share", "compute_share"),
)
MEMORY = ("device_memory_gigabytes", "device_memory_peak_gigabytes")
TIME_FIELDS = ("seconds", *SPEEDS, *MEMORY)
"""The fields in which two runs of the same experiment may differ."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    records = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if line.endswith("\n"):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{path}:{number}: not valid JSON; remove the line") from error
    return records


def speeds(path: Path) -> dict[str, float | None]:
    """The median of each speed over the records that have it, and the seconds in all."""
    records = read_metrics(path)
    medians: dict[str, float | None] = {}
    for name in SPEEDS:
        known = [record[name] for record in records if record.get(name) is not None]
        medians[name] = float(np.median(known)) if known else None
    return {**medians, "train_seconds": sum(record["seconds"] for record in records)}


@runtime_checkable
class Curves(Protocol):
    """Where the numbers of records are drawn."""

    def write(self, record: dict[str, Any]) -> None:
        """Draw a record."""

    def close(self, failed: bool) -> None:
        """No more records follow; `failed` says whether an exception ended the run."""


class Metrics:
    """The run's metrics.jsonl and its progress, from the step it starts at."""

    def __init__(
        self,
        path: Path,
        kept: Sequence[dict[str, Any]],
        start: int,
        steps: int,
        curves: Sequence[Curves] = (),
    ) -> None:
        """Open `path`, cut back to the records `kept`, those of steps up to `start`.

        Args:
          path: a metrics.jsonl.
          kept: its records to keep.
          start: steps done.
          steps: of the whole run.
          curves: where each record goes as well; closed with this.
        """
        write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._path, self._file = path, path.open("ab", buffering=0)
        self._steps, self._curves = steps, curves
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=steps, initial=start, unit="step") if terminal else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and show it; what is not finite becomes null."""
        whole = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in record.items()
        }
        with writing(self._path):
            # Unbuffered: what the file system refused is not tried again when it is closed.
            self._file.write((json.dumps(whole, allow_nan=False) + "\n").encode())
        for curves in self._curves:
            curves.write(whole)
        shown = f"loss {record['loss']:.4f} "
        if "pair_accuracy" in record:
            shown += f"pair {record['pair_accuracy']:.3f} top1 {record['top1']:.3f} "
            shown += f"{record['pairs_per_second']:.0f} pairs/s"
        else:
            shown += f"{record['tokens_per_second']:.0f} tokens/s"
        if record.get("mfu") is not None:
            shown += f" mfu {record['mfu']:.1%}"
        if record["skipped_updates"]:
            shown += f" skipped {record['skipped_updates']}"
        if self._bar is not None:
            self._bar.set_description(shown)
            self._bar.update(record["step"] - self._bar.n)
        else:
            print(f"step {record['step']}/{self._steps} {shown}", flush=True)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if self._bar is not None:
            self._bar.close()
        for curves in self._curves:
            curves.close(failed=error is not None)


class Clock:
    """Speed between two lines of metrics.jsonl."""

    def __init__(self, work: Work, flops: int, peak: float | None, start: int) -> None:
        """Start at a step.

        Args:
          work: what one step holds.
          flops: useful operations of one step (`step_flops`).
          peak: of all devices together, where it is known [operations a second].
          start: steps done.
        """
        self._work, self._flops, self._peak = work, flops, peak
        self._step, self._time, self._waited = start, time.perf_counter(), 0.0
        self._saving = 0.0

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """What is done meanwhile is none of the steps'."""
        began = time.perf_counter()
        yield
        self._time += time.perf_counter() - began

    @contextmanager
    def saving(self) -> Iterator[None]:
        """The steps wait meanwhile for what is saved."""
        began = time.perf_counter()
        yield
        self._saving += time.perf_counter() - began

    def lap(self, done: int, waited: float) -> dict[str, float | None]:
        """The time fields of a record; `mfu` is None where the devices' peak is unknown.

        The shares of its seconds sum to 1: waits for data, waits for what is saved, the rest.

        Args:
          done: steps done.
          waited: seconds that the loop has waited for data since the start.
        """
        now, steps = time.perf_counter(), done - self._step
        seconds = now - self._time
        data_wait, checkpoint = (waited - self._waited) / seconds, self._saving / seconds
        self._step, self._time, self._waited, self._saving = done, now, waited, 0.0
        flops_per_second = self._flops * steps / seconds
        return {
            "seconds": seconds,
            "pairs_per_second": self._work.pairs * steps / seconds,
            "unique_tokens_per_second": self._work.unique_tokens * steps / seconds,
            "tokens_per_second": self._work.tokens * steps / seconds,
            "flops_per_second": flops_per_second,
            "mfu": None if self._peak is None else flops_per_second / self._peak,
            "data_wait_share": data_wait,
            "checkpoint_share": checkpoint,
            "compute_share": 1 - data_wait - checkpoint,
        }


def device_memory() -> dict[str, float | None]:
    """Of the fullest of this host's devices, now and at most [GB]; None where they do not tell."""
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    found: dict[str, float | None] = {}
    for name, key in zip(MEMORY, ("bytes_in_use", "peak_bytes_in_use"), strict=True):
        sizes = [stats[key] for stats in told if key in stats]
        found[name] = max(sizes) / 1e9 if sizes else None
    return found
