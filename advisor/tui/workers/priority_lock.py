"""A lock with two priorities: answers that a user waits for go before background work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PriorityLock:
    """Held by one thread at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._locked = False
        self._urgent_waiting = 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Hold the lock as soon as it is free, before any background work."""
        with self._changed:
            self._urgent_waiting += 1
            self._changed.wait_for(lambda: not self._locked)
            self._urgent_waiting -= 1
            self._locked = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def background(self) -> Iterator[None]:
        """Hold the lock when it is free and no urgent work waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._locked and not self._urgent_waiting)
            self._locked = True
        try:
            yield
        finally:
            self._release()

    def yield_to_urgent(self) -> None:
        """Called by the background holder: release the lock to urgent work that waits, and hold it again afterwards."""
        if self._urgent_waiting:
            with self._changed:
                self._locked = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._locked and not self._urgent_waiting)
                self._locked = True

    def _release(self) -> None:
        with self._changed:
            self._locked = False
            self._changed.notify_all()
