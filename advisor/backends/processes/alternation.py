"""Lets two child processes work alternately, so that a disturbance of the machine affects the measurements of both equally."""

import threading
import time

POLL_S = 0.1
"""Seconds between two checks for a cancellation."""


class Alternation:
    """Two processes, 0 and 1, of which one works at a time; each works once before the other works again, until one has left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0
        self._working: int | None = None
        self._left: set[int] = set()

    def wait(self, process: int, cancel: threading.Event, deadline_s: float) -> bool:
        """End the part that `process` works on, and wait until its next one may begin.

        False where `cancel` is set or the clock passes `deadline_s` before.
        """
        with self._changed:
            if self._working == process:
                self._end(process)
            while not self._may_begin(process):
                if cancel.is_set() or time.monotonic() > deadline_s:
                    return False
                self._changed.wait(POLL_S)
            self._working = process
            return True

    def leave(self, process: int) -> None:
        """`process` has ended: the other no longer waits for it."""
        with self._changed:
            self._left.add(process)
            if self._working == process:
                self._end(process)
            self._changed.notify_all()

    def _may_begin(self, process: int) -> bool:
        return self._working is None and (self._next == process or (1 - process) in self._left)

    def _end(self, process: int) -> None:
        self._working, self._next = None, 1 - process
        self._changed.notify_all()
