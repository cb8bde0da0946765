"""Checkpoints of long work: a caller can cancel it, or make it wait, between two small steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_check: ContextVar[Callable[[], None]] = ContextVar("check", default=lambda: None)


def checkpoint() -> None:
    """Run the caller's check, which may wait, and may raise to end the work. Without `cancellable` it does nothing."""
    _check.get()()


@contextmanager
def cancellable(check: Callable[[], None]) -> Iterator[None]:
    """Run `check` at every checkpoint of this thread, or of this task, while the context lasts."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)
