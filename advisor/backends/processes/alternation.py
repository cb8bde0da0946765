"""Lets two child processes work alternately, so that a disturbance of the machine affects the measurements of both equally."""

import threading
import time

POLL_S = 0.1
"""Seconds between two looks at a cancellation."""


class Alternation:
    """Two parties, 0 and 1, of which one works at a time; each works once before the other works again, until one has left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0
        self._working: int | None = None
        self._left: set[int] = set()

    def wait(self, party: int, cancel: threading.Event, deadline_s: float) -> bool:
        """End the part that `party` works on, and wait until its next one may begin.

        False where `cancel` is set or the clock passes `deadline_s` before.
        """
        with self._changed:
            if self._working == party:
                self._end(party)
            while not self._may_begin(party):
                if cancel.is_set() or time.monotonic() > deadline_s:
                    return False
                self._changed.wait(POLL_S)
            self._working = party
            return True

    def leave(self, party: int) -> None:
        """`party` has ended: the other no longer waits for it."""
        with self._changed:
            self._left.add(party)
            if self._working == party:
                self._end(party)
            self._changed.notify_all()

    def _may_begin(self, party: int) -> bool:
        return self._working is None and (self._next == party or (1 - party) in self._left)

    def _end(self, party: int) -> None:
        self._working, self._next = None, 1 - party
        self._changed.notify_all()
