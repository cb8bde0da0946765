"""A benchmark case: what it is called, what it needs, about how long it takes, and what runs it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.harness.record import Record, Timing, Work

Setting = int | float | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a case found out."""

    settings: dict[str, Setting] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()
    values: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how carefully to measure."""

    device: torch.device
    samples: int
    folder: Path
    """Where the device's results stand."""
    record: Callable[[str, str], Record | None]
    """What an earlier case of this environment found: `record(part, case)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One piece of work between two writes of the results."""

    part: str
    """The file that its record stands in."""
    name: str
    seconds: float
    """About how long it takes: what does not fit in the time that is left is not begun."""
    run: Callable[[Bench], Measured]
    needs: tuple[str, ...] = ()
    """Kernels whose check must be green."""
    after: tuple[tuple[str, str], ...] = ()
    """Cases, as part and name, that must be done before this one means anything."""
