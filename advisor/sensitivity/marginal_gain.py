"""What the next GiB of memory, or the next millisecond of a limit, buys: planned again with the limit moved."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from advisor.planning.advice import Candidate
from advisor.planning.advise import choose
from advisor.planning.reasons import EXPLAINED_METRICS, changed_noticeably
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Value
from advisor.profiles.request import Limits, Request
from advisor.quantities.limits import LIMITS, MEMORY, METRIC_OF

if TYPE_CHECKING:
    from advisor.planning.planner import Planner

STEPS = {limit.name: limit.step for limit in LIMITS.values() if limit.step is not None}
"""Step of each limit that can be loosened, in the metric's unit."""
GROWTH = 4.0
FARTHEST = 2.0
"""A limit is loosened up to so many times itself in search of a gain."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric before and after."""

    metric: str
    before: Value
    after: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What a limit that is looser by a step buys. The step is in the unit of the limit's metric and always positive."""

    limit: str
    bound: float
    step: float
    loosened_to: float
    request: Request
    """The question with the limit moved."""
    chosen: Candidate
    """What is then chosen."""
    changes: tuple[MetricChange, ...]
    """Metrics that move noticeably."""
    probability: tuple[float, float]
    """Probability that all limits are kept, before and after."""
    changes_plan: bool
    """Whether another stack is chosen then."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the same plan is chosen and no metric moves."""
        return not self.changes_plan and not self.changes


def movable(request: Request) -> tuple[str, ...]:
    """The limits of a request for which `next_gain` has an answer: those that were asked, and memory, which always ends somewhere."""
    return tuple(limit for limit in STEPS if limit == MEMORY or getattr(request.limits, limit) is not None)


def marginal_gain(planner: "Planner", chosen: Candidate, request: Request, limit: str, step: float | None = None) -> Gain:
    """What is chosen when `limit` is looser by `step` (default: its unit of `STEPS`), beside what is chosen now.

    Memory beyond what the device has is taken as a device with more. Raises `ValueError` for a limit that is not `movable`.
    """
    if limit not in movable(request):
        raise ValueError(f"{limit} is not a limit of the request that can be moved")
    step = STEPS[limit] if step is None else step
    asked = planner.budget_gib(request) if limit == MEMORY else getattr(request.limits, limit)
    moved_to = max(asked - step, 1e-9) if METRIC_OF[limit].higher_is_better else asked + step
    wider, loosened = _loosened(planner, request, limit, moved_to)
    then = choose(wider, loosened)
    return Gain(
        limit=limit,
        bound=asked,
        step=step,
        loosened_to=moved_to,
        request=loosened,
        chosen=then,
        changes=changes(chosen, then),
        probability=(chosen.probability, then.probability),
        changes_plan=then.id != chosen.id,
    )


def first_improving_step(planner: "Planner", chosen: Candidate, request: Request, limit: str) -> Gain | None:
    """The first of ever larger steps that buys something; `None` where none up to `FARTHEST` times the limit does. Several plans long."""
    asked = planner.budget_gib(request) if limit == MEMORY else getattr(request.limits, limit)
    step = STEPS[limit]
    while step <= max((FARTHEST - 1) * asked, STEPS[limit]):
        gain = marginal_gain(planner, chosen, request, limit, step)
        if not gain.changes_nothing:
            return gain
        step *= GROWTH
    return None


def changes(before: Candidate, after: Candidate) -> tuple[MetricChange, ...]:
    """The compared metrics that move noticeably between two candidates."""
    pairs = ((metric, getattr(before.metrics, metric), getattr(after.metrics, metric)) for metric in EXPLAINED_METRICS)
    return tuple(MetricChange(metric, old, new) for metric, old, new in pairs if old and new and changed_noticeably(old.value, new.value))


def with_limit(request: Request, limit: str, bound: float | None) -> Request:
    """The request with one limit moved, or lifted."""
    return request.model_copy(update={"limits": Limits.model_validate(request.limits.model_dump() | {limit: bound})})


def _loosened(planner: "Planner", request: Request, limit: str, bound: float) -> tuple["Planner", Request]:
    """The planner and the request for which the bound holds: a device with more memory where it has not enough."""
    if limit != MEMORY:
        return planner, with_limit(request, limit, bound)
    there = planner.estimator.memory.budget_bytes / GIB
    wider = planner.with_memory(bound - there) if bound > there else planner
    return wider, request if request.limits.memory_gib_per_device is None else with_limit(request, MEMORY, bound)
