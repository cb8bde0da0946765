"""What a benchmark leaves behind: raw seconds of every candidate of a case, and the environment that they were taken in."""

from statistics import median
from typing import Literal

from pydantic import Field

from advisor.profiles.frozen import Frozen


class Environment(Frozen):
    """What timings depend on. Two records with one `id` may coexist."""

    id: str
    """Of everything below but the commit, the clocks, the load and when it was."""
    fingerprint: str
    device: str
    """Name of the GPU, or of the processor."""
    driver: str | None
    python: str
    packages: dict[str, str]
    code: str
    """Digest of the Python sources of the package and of the benchmarks."""
    commit: str | None
    threads: int
    variables: dict[str, str]
    """Of the process's environment, those by which threads and kernels are set."""
    dry: bool
    """A trial of the flow on tiny shapes: its times mean nothing."""
    clocks: dict[str, float | None]
    """Clocks and temperature as read; nothing is set."""
    load: tuple[float, ...]
    """Load averages of the host at the start."""
    command: tuple[str, ...]
    started: str


class Timing(Frozen):
    """How long one candidate took."""

    name: str
    how: Literal["graph", "loop", "missing"]
    """A captured graph of calls, calls one after another, or not run at all."""
    calls: int = Field(default=1, ge=1)
    """Calls of one sample."""
    seconds: tuple[float, ...] = ()
    """Of one call: a number for each sample, candidates having taken turns."""
    why: str = ""
    """Why it was not run."""

    @property
    def median_s(self) -> float | None:
        """The middle sample; `None` where there is none."""
        return median(self.seconds) if self.seconds else None


class Work(Frozen):
    """What one call of a candidate moves and computes, at the least."""

    bytes: int = Field(ge=0)
    flops: int = Field(default=0, ge=0)


class Record(Frozen):
    """One case as it was run."""

    case: str
    status: Literal["started", "done", "failed", "red"]
    """`started` stays where the process died; `red` means that a check of its kernels failed, so nothing was timed."""
    environment: str
    """The `id` of its environment."""
    settings: dict[str, int | float | str | bool | None] = Field(default_factory=dict)
    work: dict[str, Work] = Field(default_factory=dict)
    """By candidate; the work of a candidate that is not named is that of the first."""
    timings: tuple[Timing, ...] = ()
    values: dict[str, float] = Field(default_factory=dict)
    """What follows from the samples, or was counted; units stand in the names."""
    notes: tuple[str, ...] = ()
    took_s: float = 0.0

    def timing(self, name: str) -> Timing | None:
        """The candidate of that name."""
        return next((timing for timing in self.timings if timing.name == name), None)

    def median_s(self, name: str) -> float | None:
        """Median seconds of a candidate; `None` where it was not timed."""
        timing = self.timing(name)
        return timing.median_s if timing else None

    def rate(self, name: str, of: Literal["bytes", "flops"] = "bytes") -> float | None:
        """Bytes or operations per second of a candidate."""
        seconds, work = self.median_s(name), self.work.get(name)
        return getattr(work, of) / seconds if seconds and work else None


class Results(Frozen):
    """Everything measured of one part on one device."""

    kind: Literal["Benchmarks"] = "Benchmarks"
    format: Literal["1.0"] = "1.0"
    part: str
    environments: tuple[Environment, ...]
    records: tuple[Record, ...]

    def environment(self, id: str) -> Environment:
        """The environment of a record."""
        return next(environment for environment in self.environments if environment.id == id)
