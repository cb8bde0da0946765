"""What a child process says while it works: one JSON object a line, parsed and validated at the parent's edge."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from advisor.profiles.frozen import Frozen
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Metrics, Sample
from advisor.profiles.quality import QualityReport


class Started(Frozen):
    """The child is up and has read its job."""

    event: Literal["started"] = "started"
    pid: int
    threads: int
    packages: dict[str, str] = Field(default_factory=dict)
    """Package name to version."""


class Progress(Frozen):
    """How far a step is. `left_s` is the time left of the whole job, when it can be told."""

    event: Literal["progress"] = "progress"
    step: str
    done: int
    total: int
    left_s: float | None = None


class Log(Frozen):
    """A sentence for a person."""

    event: Literal["log"] = "log"
    text: str


class Measured(Frozen):
    """Numbers that stand, whatever happens to the child afterwards. Later ones add to earlier ones."""

    event: Literal["measured"] = "measured"
    metrics: Metrics
    samples: tuple[Sample, ...] = ()
    choices: tuple[str, ...] = ()
    """What was chosen by measuring while it ran, each with its reason."""
    pace_s: float | None = None
    """The processor's mean pace while it served."""


class Profiled(Frozen):
    """The machine's profile."""

    event: Literal["profiled"] = "profiled"
    profile: MachineProfile


class Judged(Frozen):
    """What techniques cost in quality."""

    event: Literal["judged"] = "judged"
    report: QualityReport


class Failed(Frozen):
    """The job cannot be done. `code` is a stable word such as `out-of-memory`."""

    event: Literal["failed"] = "failed"
    code: str
    message: str
    notes: tuple[str, ...] = ()


class Finished(Frozen):
    """The job is done; nothing follows."""

    event: Literal["finished"] = "finished"
    seconds: float


Event = Started | Progress | Log | Measured | Profiled | Judged | Failed | Finished

OnEvent = Callable[[Event | str], None]
"""Who hears of long work: what children say, and plain sentences."""

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str | bytes) -> Event:
    """Read one line of a child's output. Raises `ValueError` when it is not an event."""
    return _EVENT.validate_json(line)
