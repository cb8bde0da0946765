"""The processor's current speed, by timing a fixed loop repeatedly.

A virtual machine's core runs up to twice as slow for seconds or minutes while its sibling thread is busy, and no counter shows it. The
ratio of the paces during two measurements says how much of their difference is the machine's.
"""

import time
from collections.abc import Callable
from statistics import fmean, median

EVERY_S = 0.05
"""Least time between two samples."""
ITERATIONS = 500
"""Of the fixed loop, about 30 µs: under a thousandth of the time between two samples."""
HICCUP = 4.0
"""Samples above this multiple of the median were interrupted by the scheduler and are ignored."""


class Pace:
    """Samples of the time that the fixed loop takes, in seconds; `sample` takes one, `time_fixed_loop` by default."""

    def __init__(self, sample: Callable[[], float] | None = None) -> None:
        self._sample = sample or time_fixed_loop
        self._due = 0.0
        self._samples: list[float] = []

    def tick(self) -> None:
        """Take a sample if the last one is at least `EVERY_S` old."""
        if time.perf_counter() >= self._due:
            self._samples.append(self._sample())
            self._due = time.perf_counter() + EVERY_S

    @property
    def mean_s(self) -> float | None:
        """Mean time of the fixed loop in seconds without interrupted samples; `None` before the first sample."""
        if not self._samples:
            return None
        limit = HICCUP * median(self._samples)
        return fmean(sample for sample in self._samples if sample <= limit)


def time_fixed_loop() -> float:
    """Seconds of the fixed loop: integer arithmetic in the interpreter, whose data stay in the first-level cache."""
    started = time.perf_counter()
    total = 0
    for index in range(ITERATIONS):
        total += index * index
    return time.perf_counter() - started
