"""Long work asks between two small steps whether it may go on. Nobody keeps it waiting unless they said so around the call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_asked: ContextVar[Callable[[], None]] = ContextVar("asked", default=lambda: None)


def checkpoint() -> None:
    """To be called between two steps: it may wait, and what it raises ends the work."""
    _asked.get()()


@contextmanager
def cancellable(check: Callable[[], None]) -> Iterator[None]:
    """Let the work of this thread ask `check` while the context lasts."""
    token = _asked.set(check)
    try:
        yield
    finally:
        _asked.reset(token)
