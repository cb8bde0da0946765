"""Slack and utilisation of each limit under a plan, and which limit binds."""

from collections.abc import Mapping
from dataclasses import dataclass

from advisor.planning.advice import Candidate
from advisor.planning.violations import bounds
from advisor.profiles.metrics import Value
from advisor.profiles.request import Request
from advisor.quantities.limits import MEMORY, METRIC_OF
from advisor.quantities.metrics import utilisation

SAME_PROBABILITY = 0.01
"""Limits whose probabilities differ by less are ordered by utilisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSlack:
    """A limit, by its name in `LIMITS`, and the predicted value of the metric that it bounds, in the metric's unit."""

    limit: str
    bound: float
    predicted: Value
    probability: float
    """Probability that the limit is met."""
    is_device_memory: bool = False
    """Whether the bound is the usable memory of the device and not a limit of the request."""

    @property
    def slack(self) -> float:
        """Distance from the predicted value to the bound; negative where the limit is violated."""
        below = self.bound - self.predicted.value
        return -below if METRIC_OF[self.limit].higher_is_better else below

    @property
    def utilisation(self) -> float:
        """Utilisation of the limit: 1 at the bound, above 1 where it is violated."""
        return utilisation(METRIC_OF[self.limit], self.predicted, self.bound)


def limit_slacks(chosen: Candidate, request: Request, budget_gib: float) -> tuple[LimitSlack, ...]:
    """The slack of every limit, the binding one first: lowest probability first, of equal ones the highest utilisation first.

    `budget_gib` is `Planner.budget_gib` of the request. Nothing is priced.
    """
    probabilities = dict(chosen.probabilities)
    slacks = [
        LimitSlack(
            limit=limit,
            bound=bound,
            predicted=predicted,
            probability=probabilities[limit],
            is_device_memory=limit == MEMORY and bound != request.limits.bound(MEMORY),
        )
        for limit, bound in bounds(request.limits, budget_gib).items()
        if (predicted := _predicted(chosen, limit)) is not None
    ]
    return tuple(sorted(slacks, key=lambda slack: (round(slack.probability / SAME_PROBABILITY), -slack.utilisation)))


def by_limit(slacks: tuple[LimitSlack, ...]) -> Mapping[str, LimitSlack]:
    """The slacks by name of their limit."""
    return {slack.limit: slack for slack in slacks}


def _predicted(chosen: Candidate, limit: str) -> Value | None:
    value: Value | None = getattr(chosen.metrics, METRIC_OF[limit].name)
    return value
