"""What the planner answers: frozen values that the command line, the session and the plan file all render."""

from dataclasses import dataclass
from enum import StrEnum

from advisor.backends.deployment import Deployment
from advisor.backends.technique import Technique
from advisor.estimate.uncertainty.probability import joint_probability
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Request

LIKELY = 0.9
"""Probability of keeping every limit from which a candidate is said to meet them."""


class Status(StrEnum):
    """How a candidate stands against the limits."""

    MEETS = "meets"
    """All of them kept with a probability of `LIKELY` or more."""
    AT_RISK = "at-risk"
    """Every predicted value keeps its limit, but all of them together less likely than that."""
    INFEASIBLE = "misses"
    """A predicted value does not keep its limit: less likely than not."""


class TechniqueState(StrEnum):
    """What became of a technique."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that a candidate does not keep. `limit` is a field name of `Limits`."""

    limit: str
    bound: float
    predicted: Value

    @property
    def ratio(self) -> float:
        """How far off, as a factor of at least 1."""
        ratio = self.predicted.value / self.bound if self.bound else float("inf")
        return max(ratio, 1 / ratio) if ratio > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One stack of techniques and what it is predicted to do."""

    id: str
    techniques: tuple[Technique, ...]
    deployment: Deployment
    metrics: Metrics
    status: Status
    violations: tuple[Violation, ...] = ()
    probabilities: tuple[tuple[str, float], ...] = ()
    """Each limit, by field name, with the probability that it is kept; the memory that there is counts as one."""

    @property
    def probability(self) -> float:
        """How likely all limits are kept."""
        return joint_probability(dict(self.probabilities))

    @property
    def worst_violation(self) -> Violation | None:
        """The limit that it is furthest from keeping; `None` where it keeps all."""
        return max(self.violations, key=lambda violation: violation.ratio, default=None)

    @property
    def names(self) -> tuple[str, ...]:
        """The techniques by name, in order of application."""
        return tuple(technique.name for technique in self.techniques)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a technique is in the plan or out of it."""

    technique: str
    state: TechniqueState
    why: str
    would_need: tuple[tuple[str, float], ...] = ()
    """Limits, by field name, that would let it in."""
    effect: tuple[tuple[str, float], ...] = ()
    """Change of each metric against the chosen stack without (or with) the technique."""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The smallest change of one limit that would let a plan in."""

    limit: str
    bound: float
    needed: float
    """From here on the plan's prediction keeps the limit."""
    candidate: Candidate
    likely: float | None = None
    """From here on it is kept with a probability of `LIKELY`; `None` where no range says so."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The whole answer to one request."""

    request: Request
    model: ModelSpec
    hardware: Hardware
    profile: str | None
    """Name of the measured profile the numbers rest on; `None` for the data sheet."""
    chosen: Candidate
    """The best feasible candidate, or the nearest one when nothing fits."""
    ranked: tuple[Candidate, ...]
    """Frontier candidates, best first; the chosen one leads."""
    reasons: tuple[Reason, ...]
    relaxations: tuple[Relaxation, ...]
    """Empty unless nothing fits."""
    binding: Violation | None
    """When nothing fits: the limit that the nearest plan misses by most."""
    considered: int
    feasible: int
    extrapolation_warning: str | None = None
    """Why the setting is unlike all that predictions were compared with: its ranges are wider."""
