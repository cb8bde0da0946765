"""Timing a piece of work on a device: warmed up, synchronised, repeated until the answer is steady or the time is up."""

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from advisor.backends.events import Event, Progress

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

ROUNDS = 5
ROUND_S = 1e-3
"""A round lasts at least this long, so that the clock's own cost does not count."""
DEAR_S = 0.05
"""Work that takes longer is timed in two rounds only."""


class Clock:
    """The time that a job may take, and who hears how it is going."""

    def __init__(self, started: float, budget_s: float, emit: Callable[[Event], None]) -> None:
        self._started = started
        self._budget_s = budget_s
        self._emit = emit
        self._told = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Seconds until the budget is used up; never negative."""
        return max(0.0, self._budget_s - self.spent_s)

    def until(self, share: float) -> "Deadline":
        """The moment when `share` of the whole budget is used up."""
        return Deadline(self._started + share * self._budget_s)

    def tell(self, step: str, done: int, total: int) -> None:
        """Report progress, at most five times a second, and always the end of a step."""
        if done < total and self.spent_s - self._told < 0.2:
            return
        self._told = self.spent_s
        self._emit(Progress(step=step, done=done, total=total, left_s=round(self.left_s, 1)))


class Deadline:
    """A moment after which optional work is left out."""

    def __init__(self, at: float) -> None:
        self._at = at

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self._at


def seconds_per_call(work: Callable[[int], object], device: "torch.device", *, cycle: int = 1) -> float:
    """Median time of `work(i)`, i counting up; a round is whole cycles of `cycle` calls and `ROUND_S` at least."""
    work(0)
    first = _round(work, device, 0, 1)
    calls = max(1, min(10_000, int(ROUND_S / max(first, 1e-7))))
    calls = -(-calls // cycle) * cycle
    rounds = 2 if calls * first > DEAR_S else ROUNDS
    times, done = [], 0
    for _ in range(rounds):
        times.append(_round(work, device, done, calls) / calls)
        done += calls
    return median(times) if rounds > 2 else min(times)


def _round(work: Callable[[int], object], device: "torch.device", first: int, calls: int) -> float:
    synchronise(device)
    started = time.perf_counter()
    for index in range(first, first + calls):
        work(index)
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: "torch.device") -> None:
    """Wait until the device has done everything it was given."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
