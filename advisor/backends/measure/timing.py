"""Timing a function on a device: warmed up, synchronised, repeated; and the time budget of a job."""

import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from advisor.backends.measure.spread import quantile
from advisor.backends.processes.events import Event, Progress

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

ROUNDS = 5
"""Rounds of calls, unless one takes longer than `SLOW_S`."""
ROUND_S = 1e-3
"""Least duration of a round, so that reading the clock costs nothing in comparison."""
FEW_ROUNDS = 2
SLOW_S = 0.03
"""A round that takes longer is done `FEW_ROUNDS` times."""
LEAST_SHARE = 0.02
"""Share of the work from which its end is estimated."""
VERY_SLOW_S = 0.1
"""A call that takes longer is timed twice, without rounds."""


class Clock:
    """The time budget of a job, and its progress events.

    `started` is when the job began, by the monotonic clock; `budget_s` is `None` without a limit; `emit` receives the events.
    """

    def __init__(self, started: float, budget_s: float | None, emit: Callable[[Event], None]) -> None:
        self._started = started
        self._budget_s = budget_s
        self._emit = emit
        self._last_report_s = 0.0
        self._begun_s: float | None = None
        self._estimated_end_s: float | None = None

    @property
    def spent_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float | None:
        """Seconds until the budget is used up, or without one until the end by `extrapolate`; `None` without either."""
        end_s = self._estimated_end_s if self._budget_s is None else self._budget_s
        return None if end_s is None else round(max(0.0, end_s - self.spent_s), 1)

    def extrapolate(self, share: float) -> None:
        """Estimate the end from the time since the first call, in which `share` of the work was done, 0 to 1."""
        if self._begun_s is None:
            self._begun_s = self.spent_s
        if share >= LEAST_SHARE:
            self._estimated_end_s = self._begun_s + (self.spent_s - self._begun_s) / share

    def until(self, share: float) -> "Deadline":
        """The moment when `share` of the budget is used up; without a budget, one that never passes."""
        return Deadline(inf if self._budget_s is None else self._started + share * self._budget_s)

    def report(self, step: str, done: int, total: int) -> None:
        """Emit a `Progress` event, at most five times a second, but always when a step is done."""
        if done < total and self.spent_s - self._last_report_s < 0.2:
            return
        self._last_report_s = self.spent_s
        self._emit(Progress(step=step, done=done, total=total, left_s=self.left_s))


class Deadline:
    """The moment, by the monotonic clock, after which optional work is skipped."""

    def __init__(self, at: float) -> None:
        self._at = at

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return time.monotonic() >= self._at


def seconds_per_call(call: Callable[[int], object], device: "torch.device", *, cycle: int = 1) -> float:
    """Seconds of `call(i)` with i = 0, 1, 2, ...: the lower quartile over rounds, which other processes disturb least.

    A round is a multiple of `cycle` calls and takes at least `ROUND_S`.
    """
    call(0)
    first = _round(call, device, 1, 1)
    if first > VERY_SLOW_S:
        return min(first, _round(call, device, 2, 1))
    first = min(first, _round(call, device, 2, 1), _round(call, device, 3, 1))
    calls = max(1, min(10_000, int(ROUND_S / max(first, 1e-7))))
    calls = -(-calls // cycle) * cycle
    rounds = FEW_ROUNDS if calls * first > SLOW_S else ROUNDS
    return quantile([_round(call, device, index * calls, calls) / calls for index in range(rounds)], 0.25)


def _round(call: Callable[[int], object], device: "torch.device", first: int, calls: int) -> float:
    synchronise(device)
    started = time.perf_counter()
    for index in range(first, first + calls):
        call(index)
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: "torch.device") -> None:
    """Wait until the device has finished all submitted work."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
