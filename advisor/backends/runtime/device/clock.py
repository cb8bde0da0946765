"""When a device began and ended its steps: by events in its stream on a GPU, by the clock elsewhere, where host and device are one."""

import time
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the device's order of work."""

    event: Any = None
    seconds: float = 0.0

    def wait(self) -> None:
        """Until the device is there."""
        if self.event is not None:
            self.event.synchronize()


class DeviceClock:
    """Adds up how long steps took and how long the device waited between them."""

    def __init__(self, device: torch.device) -> None:
        self.device_s = self.host_gap_s = 0.0
        self._has_events = device.type == "cuda"
        self._last_end: Mark | None = None

    def mark(self) -> Mark:
        """Now, as the device will see it."""
        if not self._has_events:
            return Mark(seconds=time.perf_counter())
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # as torch has it
        event.record()
        return Mark(event)

    def add(self, begin: Mark, end: Mark, *, follows: bool) -> None:
        """Count a step that is over, in order; `follows` says that it could have come right after the one before."""
        self.device_s += _between(begin, end)
        if follows and self._last_end is not None:
            self.host_gap_s += max(0.0, _between(self._last_end, begin))
        self._last_end = end


def _between(early: Mark, late: Mark) -> float:
    return late.seconds - early.seconds if early.event is None else early.event.elapsed_time(late.event) / 1e3
