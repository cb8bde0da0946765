"""The answer to a request, as frozen values that the command line, the terminal interface and the plan file render."""

from dataclasses import dataclass
from enum import StrEnum

from advisor.backends.deployment import Deployment
from advisor.backends.technique import Technique
from advisor.estimate.memory.capacity import CacheSize
from advisor.estimate.uncertainty.probability import joint_probability
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits, Request
from advisor.quantities.limits import MEMORY

LIKELY = 0.9
"""Probability of meeting all limits from which a candidate counts as meeting them."""


class Status(StrEnum):
    """Whether a candidate meets the limits."""

    MEETS = "meets"
    """It meets all of them with a probability of at least `LIKELY`."""
    AT_RISK = "at-risk"
    """Every predicted value is within its limit, but the probability of meeting all of them is below `LIKELY`."""
    INFEASIBLE = "misses"
    """A predicted value violates its limit."""


class TechniqueState(StrEnum):
    """Whether a technique is in the plan, and if not, why."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that the predicted value of a candidate violates. `limit` is its name in `LIMITS`."""

    limit: str
    bound: float
    predicted: Value

    @property
    def ratio(self) -> float:
        """Ratio of predicted value and bound, the larger over the smaller."""
        ratio = self.predicted.value / self.bound if self.bound else float("inf")
        return max(ratio, 1 / ratio) if ratio > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One stack of techniques with its predicted metrics, compared with the limits."""

    id: str
    techniques: tuple[Technique, ...]
    deployment: Deployment
    metrics: Metrics
    status: Status
    violations: tuple[Violation, ...] = ()
    probabilities: tuple[tuple[str, float], ...] = ()
    """The probability that each limit is met, by its name in `LIMITS`; the memory of the device is always one of them."""

    @property
    def probability(self) -> float:
        """Probability that all limits are met."""
        return joint_probability(dict(self.probabilities))

    @property
    def worst_violation(self) -> Violation | None:
        """The violation with the largest ratio; `None` where there is none."""
        return max(self.violations, key=lambda violation: violation.ratio, default=None)

    @property
    def names(self) -> tuple[str, ...]:
        """The techniques by name, in order of application."""
        return tuple(technique.name for technique in self.techniques)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a technique is in the plan or not."""

    technique: str
    state: TechniqueState
    why: str
    would_need: tuple[tuple[str, float], ...] = ()
    """Limits, by name, that would admit it, each with the bound."""
    effect: tuple[tuple[str, float], ...] = ()
    """Change of metrics by the technique, in the unit of each."""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The smallest change of one number of the request that makes a plan feasible."""

    limit: str
    """Name of a limit, or `context_tokens`, `concurrency` or `devices`."""
    bound: float
    """The number in the request, or the memory of the device."""
    needed: float
    """The number from which the predicted value is within the limit."""
    candidate: Candidate
    likely: float | None = None
    """The number from which the limits are met with probability `LIKELY`; `None` where only the workload changes."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer to one request."""

    request: Request
    model: ModelSpec
    hardware: Hardware
    profile: str | None
    """Name of the measured profile behind the numbers; `None` for the data sheet."""
    chosen: Candidate
    """The best feasible candidate; the least infeasible one where none is."""
    ranked: tuple[Candidate, ...]
    """Candidates of the Pareto frontier, best first, from the chosen one on."""
    reasons: tuple[Reason, ...]
    relaxations: tuple[Relaxation, ...]
    """Empty where the chosen candidate is feasible."""
    binding: Violation | None
    """The worst violation of the chosen candidate; `None` where it is feasible."""
    considered: int
    feasible: int
    budget_gib: float
    """GiB of each device that a stack may use: the usable memory, or the limit where that is less."""
    cache: CacheSize | None = None
    """What the chosen candidate's paged cache is sized for; `None` where all running requests may be of the longest length."""
    warnings: tuple[str, ...] = ()
    """What the numbers assume of the machine, and devices that have nothing to do, a sentence each."""
    layout_reason: str = ""
    """Why the model is spread over the devices as it is; empty for a single device."""
    arithmetic_reason: str = ""
    """The type of activations and why it is not the checkpoint's; empty where it is."""
    extrapolation_warning: str | None = None
    """Why the ranges are wider: how the setting differs from every measurement that predictions were compared with."""

    @property
    def limits(self) -> Limits:
        """The limits of the request; one on memory is at most what the device has."""
        bound = self.request.limits.bound(MEMORY)
        return self.request.limits if bound is None else self.request.limits.model_copy(update={MEMORY: min(bound, self.budget_gib)})
