"""Timing a piece of work on a device: warmed up, synchronised, repeated until the answer is steady or the time is up."""

import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from advisor.backends.measure.spread import quantile
from advisor.backends.processes.events import Event, Progress

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

ROUNDS = 5
ROUND_S = 1e-3
"""A round lasts at least this long, so that the clock's own cost does not count."""
FEW_ROUNDS = 2
DEAR_S = 0.03
"""A round that takes longer is repeated less often."""
VERY_DEAR_S = 0.1
"""Work that takes longer is timed twice, and that is all."""


class Clock:
    """The time that a job may take, and who hears how it is going."""

    def __init__(self, started: float, budget_s: float | None, emit: Callable[[Event], None]) -> None:
        self._started = started
        self._budget_s = budget_s
        self._emit = emit
        self._told = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float | None:
        """Seconds until the budget is used up, never negative; `None` without a budget."""
        return None if self._budget_s is None else round(max(0.0, self._budget_s - self.spent_s), 1)

    def until(self, share: float) -> "Deadline":
        """The moment when `share` of the whole budget is used up; never, without a budget."""
        return Deadline(inf if self._budget_s is None else self._started + share * self._budget_s)

    def tell(self, step: str, done: int, total: int) -> None:
        """Report progress, at most five times a second, and always the end of a step."""
        if done < total and self.spent_s - self._told < 0.2:
            return
        self._told = self.spent_s
        self._emit(Progress(step=step, done=done, total=total, left_s=self.left_s))


class Deadline:
    """A moment after which optional work is left out."""

    def __init__(self, at: float) -> None:
        self._at = at

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self._at


def seconds_per_call(work: Callable[[int], object], device: "torch.device", *, cycle: int = 1) -> float:
    """Time of `work(i)`, i counting up: the lower quartile of rounds, which others on the machine disturb least.

    A round is whole cycles of `cycle` calls and lasts `ROUND_S` at least.
    """
    work(0)
    first = _round(work, device, 1, 1)
    if first > VERY_DEAR_S:
        return min(first, _round(work, device, 2, 1))
    first = min(first, _round(work, device, 2, 1), _round(work, device, 3, 1))
    calls = max(1, min(10_000, int(ROUND_S / max(first, 1e-7))))
    calls = -(-calls // cycle) * cycle
    rounds = FEW_ROUNDS if calls * first > DEAR_S else ROUNDS
    return quantile([_round(work, device, turn * calls, calls) / calls for turn in range(rounds)], 0.25)


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
