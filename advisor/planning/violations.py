"""The limits of a request as bounds, and which of them a stack violates, one stack at a time. `ranking` does the same in columns."""

from collections.abc import Sequence

from advisor.planning.advice import LIKELY, Status, Violation
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Limits
from advisor.quantities.formatting import number
from advisor.quantities.limits import LIMITS, MEMORY, METRIC_OF
from advisor.quantities.metrics import satisfies


def bounds(limits: Limits, budget_gib: float) -> dict[str, float]:
    """Every limit that is set, by field of `Limits`, and the memory budget of a device, GiB."""
    stated = {limit: bound for limit in LIMITS if (bound := limits.bound(limit)) is not None}
    return stated | {MEMORY: budget_gib}


def violations_of(metrics: Metrics, limits: Limits, budget_gib: float) -> tuple[Violation, ...]:
    """The limits that predicted values violate, in the order of `bounds`; a metric that was not predicted violates none."""
    violations = []
    for limit, bound in bounds(limits, budget_gib).items():
        metric = METRIC_OF[limit]
        value = getattr(metrics, metric.name)
        if value is not None and not satisfies(metric, value.value, bound):
            violations.append(Violation(limit, bound, value))
    return tuple(violations)


def bound_words(violation: Violation, limits: Limits) -> str:
    """The violated bound: `the limit of 20 ms`, or the memory of a device that is usable where no lower limit on it was asked for."""
    bound = f"{number(violation.bound, trim=True)} {METRIC_OF[violation.limit].unit}"
    return f"the limit of {bound}" if limits.states(violation.limit, violation.bound) else f"the usable {bound} of a device"


def status(probability: float, violations: Sequence[Violation]) -> Status:
    """The status of a stack that meets all limits with this probability and has these violations."""
    if violations:
        return Status.INFEASIBLE
    return Status.MEETS if probability >= LIKELY else Status.AT_RISK
