"""Interleaves kinds of measurement over the whole time budget, so that a disturbance of the machine affects all of them equally."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from advisor.backends.measure.cpu_pace import Pace
from advisor.backends.measure.timing import Clock, Deadline

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class MeasurementKind(Generic[T]):
    """One kind of measurement: its tasks, the most informative first, and the samples of those that are done."""

    tasks: Sequence[Callable[[], Iterable[T]]]
    share: float
    """Share of the time, relative to the other kinds."""
    required: int
    """Tasks that are done even after the deadline."""
    samples: list[T] = field(default_factory=list)
    done: int = 0
    spent_s: float = 0.0

    def step(self) -> None:
        """Do the next task and add its samples."""
        started = time.monotonic()
        self.samples += self.tasks[self.done]()
        self.done += 1
        self.spent_s += time.monotonic() - started

    def has_work(self, deadline: Deadline) -> bool:
        """Whether a task is left that must be done, or that may be done before `deadline`."""
        return self.done < min(self.required, len(self.tasks)) or (self.done < len(self.tasks) and not deadline.passed)


def interleave(kinds: Sequence[MeasurementKind[Any]], clock: Clock, deadline: Deadline, step: str) -> float | None:
    """Do tasks until `deadline`, each time one of the kind that has used the least of its share, and report progress under the name `step`.

    Returns the mean of the processor's pace meanwhile in seconds, as `Pace.mean_s`.
    """
    pace = Pace()
    total = sum(len(kind.tasks) for kind in kinds)
    while unfinished := [kind for kind in kinds if kind.has_work(deadline)]:
        clock.report(step, sum(kind.done for kind in kinds), total)
        pace.tick()
        min(unfinished, key=lambda kind: kind.spent_s / kind.share).step()
    clock.report(step, total, total)
    return pace.mean_s
