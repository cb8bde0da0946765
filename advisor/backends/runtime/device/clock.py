"""Start and end of the steps of a device: by CUDA events on a GPU, by the host's clock elsewhere."""

import time
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in time in the device's stream."""

    event: Any = None
    seconds: float = 0.0

    def wait(self) -> None:
        """Wait until the device has reached it."""
        if self.event is not None:
            self.event.synchronize()


class DeviceClock:
    """Adds up how long steps took and how long the device waited between them."""

    def __init__(self, device: torch.device) -> None:
        self.device_s = self.host_gap_s = 0.0
        self._has_events = device.type == "cuda"
        self._last_end: Mark | None = None

    def mark(self) -> Mark:
        """A mark at the current end of the device's stream."""
        if not self._has_events:
            return Mark(seconds=time.perf_counter())
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # as torch has it
        event.record()
        return Mark(event)

    def add(self, begin: Mark, end: Mark, *, follows: bool) -> None:
        """Add a finished step, in order. With `follows`, the gap since the step before counts as idle time."""
        self.device_s += _between(begin, end)
        if follows and self._last_end is not None:
            self.host_gap_s += max(0.0, _between(self._last_end, begin))
        self._last_end = end


def _between(early: Mark, late: Mark) -> float:
    return late.seconds - early.seconds if early.event is None else early.event.elapsed_time(late.event) / 1e3
