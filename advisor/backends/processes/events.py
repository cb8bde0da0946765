"""Events of a child process: one JSON object a line, parsed and validated by the parent."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from advisor.profiles.frozen import Frozen
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Metrics, Sample
from advisor.profiles.quality import QualityReport
from advisor.profiles.run import Repeat


class Started(Frozen):
    """The child has started and has read its job."""

    event: Literal["started"] = "started"
    pid: int
    threads: int
    packages: dict[str, str] = Field(default_factory=dict)
    """Package name to version."""


class Ready(Frozen):
    """The child has done a part of its job, and waits for a line on its standard input before it begins the next."""

    event: Literal["ready"] = "ready"


class Progress(Frozen):
    """Progress of a step. `left_s` is the time left of the whole job in seconds, `None` where unknown."""

    event: Literal["progress"] = "progress"
    step: str
    done: int
    total: int
    left_s: float | None = None


class Log(Frozen):
    """A message for the user."""

    event: Literal["log"] = "log"
    text: str


class Measured(Frozen):
    """Measured numbers, which stay valid if the child fails later. Metrics of later events add to those of earlier ones."""

    event: Literal["measured"] = "measured"
    metrics: Metrics
    samples: tuple[Sample, ...] = ()
    choices: tuple[str, ...] = ()
    """Choices made by measuring (autotuning), each with its reason."""
    pace_s: float | None = None
    """Mean of the processor's pace while serving, in seconds."""
    repeats: tuple[Repeat, ...] = ()


class Profiled(Frozen):
    """The machine's profile."""

    event: Literal["profiled"] = "profiled"
    profile: MachineProfile


class QualityMeasured(Frozen):
    """The quality loss of techniques."""

    event: Literal["judged"] = "judged"
    report: QualityReport


class Failed(Frozen):
    """The job failed. `code` is a stable identifier such as `out-of-memory`."""

    event: Literal["failed"] = "failed"
    code: str
    message: str
    notes: tuple[str, ...] = ()


class Finished(Frozen):
    """The job is done; this is the last event."""

    event: Literal["finished"] = "finished"
    seconds: float


Event = Started | Ready | Progress | Log | Measured | Profiled | QualityMeasured | Failed | Finished

OnEvent = Callable[[Event | str], None]
"""Receives the events of child processes, and messages in plain text."""

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str | bytes) -> Event:
    """Parse one line of a child's output. Raises `ValueError` when it is not an event."""
    return _EVENT.validate_json(line)
