"""A benchmark case: its name, requirements, expected duration and function."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.harness.record import Record, Timing, Work

Setting = int | float | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The results of a case."""

    settings: dict[str, Setting] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()
    values: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The device, the number of samples, and the results so far."""

    device: torch.device
    samples: int
    folder: Path
    """Folder of the device's results."""
    record: Callable[[str, str], Record | None]
    """The record of an earlier case in this environment: `record(part, case)`; `None` where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A benchmark whose results are written as one record."""

    part: str
    """The file of its record."""
    name: str
    seconds: float
    """Expected duration; a case that does not fit in the remaining time is not started."""
    run: Callable[[Bench], Measured]
    needs: tuple[str, ...] = ()
    """Kernels whose check must pass."""
    after: tuple[tuple[str, str], ...] = ()
    """Cases, as part and name, that this one depends on."""
