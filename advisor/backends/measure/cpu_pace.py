"""How fast the processor runs just now: its clock and what its neighbours leave it, from a fixed piece of work timed over and over.

A virtual machine's core runs up to twice as slow while its sibling thread is busy, for seconds or minutes, and no counter tells. What was
timed at one pace misses at another; the ratio of the two paces says how much of a miss is the machine's.
"""

import time
from statistics import fmean, median

EVERY_S = 0.05
ITERATIONS = 500
"""About 30 µs: under a thousandth of the time between two samples."""
HICCUP = 4.0
"""A sample that took so many times the median was interrupted, and says nothing of the pace."""


class Pace:
    """Samples of the pace."""

    def __init__(self) -> None:
        self._due = 0.0
        self._samples: list[float] = []

    def tick(self) -> None:
        """Take a sample, if the last is `EVERY_S` old."""
        if time.perf_counter() >= self._due:
            self._samples.append(time_fixed_loop())
            self._due = time.perf_counter() + EVERY_S

    @property
    def mean_s(self) -> float | None:
        """Mean seconds of the fixed work, interrupted samples left out; `None` before the first."""
        if not self._samples:
            return None
        most = HICCUP * median(self._samples)
        return fmean(sample for sample in self._samples if sample <= most)


def time_fixed_loop() -> float:
    """What the fixed work takes once: integer arithmetic in the interpreter, which stays within the first cache."""
    started = time.perf_counter()
    total = 0
    for turn in range(ITERATIONS):
        total += turn * turn
    return time.perf_counter() - started
