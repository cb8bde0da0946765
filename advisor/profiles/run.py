"""The record of an applied plan: every rung of the ladder, predicted beside measured. Written as `run.json`."""

from enum import StrEnum

from pydantic import Field

from advisor.profiles.frozen import Frozen
from advisor.profiles.metrics import Metrics, Sample
from advisor.profiles.request import Request


class RungStatus(StrEnum):
    """How a rung ended."""

    DONE = "done"
    FAILED = "failed"
    OUT_OF_MEMORY = "out-of-memory"
    CANCELLED = "cancelled"
    NOT_RUN = "not-run"


class Environment(Frozen):
    """What the numbers were taken on."""

    fingerprint: str
    device: str
    threads: int
    python: str
    packages: dict[str, str]
    """Package name to version: torch, transformers and the like."""
    profiled_pace_s: float | None = Field(default=None, gt=0)
    """The processor's pace when the profile behind the predictions was measured; `None` where there is none."""
    commit: str | None = None


class Recipe(Frozen):
    """How a rung was measured."""

    requests: int
    warmup_requests: int
    repeats: int
    seed: int
    quality_text: str
    """Name of the text that quality was measured on."""
    quality_tokens: int


class Rung(Frozen):
    """One step of the ladder: the baseline, or the techniques so far."""

    name: str
    """`baseline`, or the technique that this rung adds."""
    techniques: tuple[str, ...]
    status: RungStatus
    predicted: Metrics
    measured: Metrics | None = None
    samples: tuple[Sample, ...] = ()
    choices: tuple[str, ...] = ()
    """What was chosen by measuring while it ran, each with its reason."""
    pace_s: float | None = Field(default=None, gt=0)
    """Mean time of the processor's fixed piece of work while this rung was served."""
    error: str | None = None
    seconds: float | None = None
    """Wall time of the child process."""


class Run(Frozen):
    """One `advisor apply`: the file `run.json`."""

    kind: str = "Run"
    format: str = "1.0"
    id: str
    plan_id: str
    title: str
    model: str
    request: Request
    environment: Environment
    recipe: Recipe
    rungs: tuple[Rung, ...]
    created: str

    @property
    def paces(self) -> tuple[float, ...]:
        """How fast the processor ran in each rung that was served, relative to when it was profiled; empty where that is not known."""
        profiled = self.environment.profiled_pace_s
        return () if profiled is None else tuple(profiled / rung.pace_s for rung in self.rungs if rung.pace_s is not None)
