"""Whose turn it is at the planner: one at a time, and what a person waits for goes before what is worked out meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PriorityLock:
    """Taken and given back by threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._awaited = 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """The next turn, for what a person waits for."""
        with self._changed:
            self._awaited += 1
            self._changed.wait_for(lambda: not self._taken)
            self._awaited -= 1
            self._taken = True
        try:
            yield
        finally:
            self._give_back()

    @contextmanager
    def background(self) -> Iterator[None]:
        """A turn when nobody waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken and not self._awaited)
            self._taken = True
        try:
            yield
        finally:
            self._give_back()

    def yield_to_urgent(self) -> None:
        """Whoever has a turn when idle lets those go first who wait for one at once, and has it again after them."""
        if self._awaited:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._taken and not self._awaited)
                self._taken = True

    def _give_back(self) -> None:
        with self._changed:
            self._taken = False
            self._changed.notify_all()
