"""What a save says where the file system refuses it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from rbs_jax.errors import UserError
from rbs_jax.files import system_error


@contextmanager
def saving(folder: Any) -> Iterator[None]:
    """Says in one line that the file system refused a save, this one or one under way.

    Raises:
      UserError: no space left, too large a file or the like.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        said = system_error(error)
        if said is None:
            raise
        raise UserError(
            f"{folder}: cannot be written: {said.strerror}; make room and give the "
            "same command again, it goes on from the newest whole checkpoint"
        ) from error


def end_failed_saves_silently() -> None:
    """Loops that orbax makes from here on take late reports of a failed save without a word."""
    asyncio.set_event_loop_policy(_LoopPolicy())


class _Loop(asyncio.SelectorEventLoop):
    """Where a save fails, orbax closes its loop while tensorstore's threads still report to it.

    They would print a traceback each; the failure itself is raised.
    """

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise
            return asyncio.Handle(callback, args, self, context)


class _LoopPolicy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Loop()
