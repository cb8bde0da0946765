"""Marginal gains: the plan for a request whose limit is looser by a step, such as one GiB of memory or one millisecond."""

from dataclasses import dataclass

from advisor.planning.advice import Candidate
from advisor.planning.advise import choose
from advisor.planning.planner import Planner
from advisor.planning.reasons import EXPLAINED_METRICS, changed_noticeably
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Value
from advisor.profiles.request import Limits, Request
from advisor.quantities.limits import LIMITS, MEMORY, METRIC_OF

STEPS = {limit.name: limit.step for limit in LIMITS.values() if limit.step is not None}
"""Step of each limit that can be loosened, in the metric's unit."""
GROWTH = 4.0
"""Factor from one step to the next in the search for a step that changes something."""
FARTHEST = 2.0
"""Multiple of a limit up to which it is loosened in that search."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric before and after."""

    metric: str
    before: Value
    after: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The effect of loosening one limit by a step. `bound`, `step` and `loosened_to` are in the unit of the limit's metric."""

    limit: str
    bound: float
    step: float
    """Positive, also for a limit from below."""
    loosened_to: float
    request: Request
    """The request with the loosened limit."""
    chosen: Candidate
    """The plan that is then chosen."""
    changes: tuple[MetricChange, ...]
    """The metrics that change noticeably."""
    probability: tuple[float, float]
    """Probability that all limits are met, before and after."""
    changes_plan: bool
    """Whether another stack is chosen."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the same plan is chosen and no metric changes noticeably."""
        return not self.changes_plan and not self.changes


def movable(request: Request) -> tuple[str, ...]:
    """The limits that `marginal_gain` can loosen: those of the request that have a step, and memory, which is always limited."""
    return tuple(limit for limit in STEPS if limit == MEMORY or request.limits.bound(limit) is not None)


def marginal_gain(planner: Planner, chosen: Candidate, request: Request, limit: str, step: float | None = None) -> Gain:
    """Plan again with `limit` loosened by `step`, by default that of `STEPS`, and compare with the plan chosen now.

    More memory than the device has is planned for as a device with more. Raises `ValueError` for a limit that is not `movable`.
    """
    if limit not in movable(request):
        raise ValueError(f"{limit} is not a limit of the request that can be moved")
    step = STEPS[limit] if step is None else step
    bound = _bound(planner, request, limit)
    loosened_to = max(bound - step, 1e-9) if METRIC_OF[limit].higher_is_better else bound + step
    larger, loosened = _loosened(planner, request, limit, loosened_to)
    after = choose(larger, loosened)
    return Gain(
        limit=limit,
        bound=bound,
        step=step,
        loosened_to=loosened_to,
        request=loosened,
        chosen=after,
        changes=changes(chosen, after),
        probability=(chosen.probability, after.probability),
        changes_plan=after.id != chosen.id,
    )


def first_improving_step(planner: Planner, chosen: Candidate, request: Request, limit: str) -> Gain | None:
    """The gain of the first step that changes something, each `GROWTH` times the one before; `None` where none up to `FARTHEST` does.

    Each step plans again. Raises as `marginal_gain` does.
    """
    step, bound = STEPS[limit], _bound(planner, request, limit)
    while step <= max((FARTHEST - 1) * bound, STEPS[limit]):
        gain = marginal_gain(planner, chosen, request, limit, step)
        if not gain.changes_nothing:
            return gain
        step *= GROWTH
    return None


def changes(before: Candidate, after: Candidate) -> tuple[MetricChange, ...]:
    """The explained metrics that change noticeably between two candidates."""
    pairs = ((metric, getattr(before.metrics, metric), getattr(after.metrics, metric)) for metric in EXPLAINED_METRICS)
    return tuple(MetricChange(metric, old, new) for metric, old, new in pairs if old and new and changed_noticeably(old.value, new.value))


def with_limit(request: Request, limit: str, bound: float | None) -> Request:
    """The request with another bound of one limit; `None` removes it."""
    return request.model_copy(update={"limits": Limits.model_validate(request.limits.model_dump() | {limit: bound})})


def _bound(planner: Planner, request: Request, limit: str) -> float:
    bound = planner.budget_gib(request) if limit == MEMORY else request.limits.bound(limit)
    assert bound is not None, "a movable limit has a bound"
    return bound


def _loosened(planner: Planner, request: Request, limit: str, bound: float) -> tuple[Planner, Request]:
    """The planner and the request under which the bound holds: for a device with more memory where this one has less."""
    if limit != MEMORY:
        return planner, with_limit(request, limit, bound)
    usable_gib = planner.estimator.memory.budget_bytes / GIB
    larger = planner.with_memory(bound - usable_gib) if bound > usable_gib else planner
    return larger, request if request.limits.bound(MEMORY) is None else with_limit(request, MEMORY, bound)
