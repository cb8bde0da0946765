"""Kinds of measurement take turns over the whole time there is, so that what the machine does meanwhile disturbs all alike."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from advisor.backends.measure.cpu_pace import Pace
from advisor.backends.measure.timing import Clock, Deadline

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class MeasurementKind(Generic[T]):
    """One kind of measurement: pieces of work, the most telling first, and what those done have found."""

    works: Sequence[Callable[[], Iterable[T]]]
    share: float
    """Of the time, relative to the other kinds."""
    needed: int
    """Pieces that are done even when the time is up."""
    found: list[T] = field(default_factory=list)
    done: int = 0
    spent_s: float = 0.0

    def step(self) -> None:
        """Do the next piece."""
        started = time.monotonic()
        self.found += self.works[self.done]()
        self.done += 1
        self.spent_s += time.monotonic() - started

    def goes_on(self, deadline: Deadline) -> bool:
        """Whether there is a piece left that may or must be done."""
        return self.done < min(self.needed, len(self.works)) or (self.done < len(self.works) and not deadline.passed)


def interleave(kinds: Sequence[MeasurementKind[Any]], clock: Clock, deadline: Deadline, step: str) -> float | None:
    """Work until the deadline, next at the kind that is furthest behind its share; what one leaves over, the others use.

    Returns the processor's mean pace meanwhile, as `Pace` gives it.
    """
    pace = Pace()
    total = sum(len(kind.works) for kind in kinds)
    while waiting := [kind for kind in kinds if kind.goes_on(deadline)]:
        clock.tell(step, sum(kind.done for kind in kinds), total)
        pace.tick()
        min(waiting, key=lambda kind: kind.spent_s / kind.share).step()
    clock.tell(step, total, total)
    return pace.mean_s
