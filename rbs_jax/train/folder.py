"""A run's folder, by path or URL: who writes its small files, and what a resumed run reads of them.

Every process works on small files of its own. Process 0's are the run's: they lie in the folder
itself, or where that is in a bucket, are copied there. So each process finds the same there, and
decides the same of it.
"""

import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rbs_jax.errors import UserError
from rbs_jax.files import make_folder
from rbs_jax.hosts.together import all_say, first_says, is_first, number
from rbs_jax.remote import bound_all_clients, is_remote
from rbs_jax.storage import exists, names_in, put_text, read_text, remove, upload

CHECKPOINTS = "checkpoints"
BESIDE = {"corpora"}
"""What may lie in a run's folder before its first step: the quickstart's corpora."""
COPY_EVERY = 30.0
"""Between two copies to a bucket of what a run says while it runs [seconds]."""
LAST_COPY = 10.0
"""How long the end of a run waits for its last copy, where the bucket fails [seconds]."""
HEARTBEAT, TENSORBOARD, PROFILE = "heartbeat.json", "tensorboard", "profile"
WANDB_ID = "wandb_id.txt"
UNTRAINED_SUITES = "untrained_suites.json"
RESUMED = ("metrics.jsonl", "untrained.json", UNTRAINED_SUITES, WANDB_ID)
"""The small files that a resumed run reads."""
BEGUN = BESIDE | {
    *(CHECKPOINTS, *RESUMED, HEARTBEAT, TENSORBOARD, PROFILE),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
}
"""What may lie there before its first checkpoint."""


class RunFolder:
    """A run's folder as one process sees it.

    Attributes:
      name: the path or URL.
      local: where this process reads and writes small files.
    """

    def __init__(self, out: str) -> None:
        """Make the folder, or take it up.

        Raises:
          UserError: it holds something else, cannot be made, or is not shared by all processes.
        """
        self.name = out.rstrip("/")
        bound_all_clients(self.name)
        first_says(lambda: refuse_foreign(self.name))
        self._is_copy = is_remote(self.name) or not is_first()
        self._sent: dict[Path, tuple[int, int]] = {}
        self._sending = threading.Lock()
        if self._is_copy:
            self._temporary = tempfile.TemporaryDirectory(prefix="rbs-run-")
            self.local = Path(self._temporary.name)
        else:
            self.local = Path(self.name)
            make_folder(self.local)
        there = first_says(lambda: {name: read_text(f"{self.name}/{name}") for name in RESUMED})
        _refuse_unshared(self.name)
        if self._is_copy:
            for name, text in there.items():
                if text is not None:
                    (self.local / name).write_text(text, encoding="utf-8")

    def sync(self) -> None:
        """Copy to a bucket what has changed since; nothing to do for a local folder.

        Raises:
          OSError: it cannot be written there.
        """
        if not (is_first() and self._is_copy):
            return
        with self._sending:
            for path in sorted(self.local.rglob("*")):
                if path.is_file() and path.suffix != ".partial":
                    stat = path.stat()
                    state = (stat.st_mtime_ns, stat.st_size)
                    if self._sent.get(path) != state:
                        upload(path, f"{self.name}/{path.relative_to(self.local).as_posix()}")
                        self._sent[path] = state

    @contextmanager
    def copied_now_and_then(self) -> Iterator[None]:
        """While the `with` lasts, sync() every COPY_EVERY seconds; once more, whatever ended it.

        Steps do not wait for it. A bucket that fails is a warning, once until it answers again.
        """
        if not (is_first() and self._is_copy):
            yield
            return
        over = threading.Event()

        def copy() -> None:
            is_over, warned = False, False
            while not is_over:
                is_over = over.wait(COPY_EVERY)
                try:
                    self.sync()
                    warned = False
                except (OSError, UserError) as error:
                    if not warned:
                        why = " ".join(str(error).split())
                        print(f"rbs: not copied before the next checkpoint: {why}", file=sys.stderr)
                    warned = True

        thread = threading.Thread(target=copy, name="copies", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(LAST_COPY)


def refuse_foreign(out: str) -> None:
    """A run never mixes with other files.

    Raises:
      UserError: `out` is a file, or a folder that holds other things and no run.
    """
    if not is_remote(out) and Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    saved = names_in(f"{out}/{CHECKPOINTS}")
    if any(name[:1].isdigit() and exists(f"{out}/{CHECKPOINTS}/{name}/params") for name in saved):
        return
    found = {name for name in names_in(out) if not name.endswith(".partial")}  # left by a kill
    # A bucket shows no folder of checkpoints before there is one.
    foreign = sorted(found - (BEGUN if found & {CHECKPOINTS, HEARTBEAT} else BESIDE))
    foreign += [name for name in saved if not name[:1].isdigit()]
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]} and no run; give another --out")


def _refuse_unshared(out: str) -> None:
    """Checkpoints are written by every process into one folder.

    Raises:
      UserError: not every process sees what process 0 writes.
    """
    if number() == 1:
        return

    def leave_mark() -> str:
        mark = f"{out}/.{uuid.uuid4().hex}.partial"
        put_text("do all processes see this?", mark)
        return mark

    mark = first_says(leave_mark)
    blind = [index for index, sees in enumerate(all_say(exists(mark))) if not sees]
    if is_first():
        remove(mark)
    if blind:
        raise UserError(
            f"{out}: process {blind[0]} does not see what process 0 writes there; give a folder "
            "that all hosts share, or a bucket (gs://)"
        )
