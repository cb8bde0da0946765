"""How a plan stands against each limit: how much room there is, and which limit it is nearest to."""

from collections.abc import Mapping
from dataclasses import dataclass

from advisor.planning.advice import Candidate
from advisor.planning.violations import bounds
from advisor.profiles.metrics import Value
from advisor.profiles.request import Request
from advisor.quantities.limits import MEMORY, METRIC_OF
from advisor.quantities.metrics import utilisation

ALIKE = 0.01
"""Chances that differ by less are told apart by how much of the limit is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSlack:
    """One limit, by field name of `Limits`, and what is predicted of the metric that it bounds; in the metric's unit."""

    limit: str
    bound: float
    predicted: Value
    probability: float
    """Probability that the limit is kept."""
    is_device_memory: bool = False
    """Whether nobody asked for it: it is the memory that there is."""

    @property
    def slack(self) -> float:
        """What is left to the limit; negative where it is missed."""
        left = self.bound - self.predicted.value
        return -left if METRIC_OF[self.limit].higher_is_better else left

    @property
    def utilisation(self) -> float:
        """How much of the limit is used up: 1 at the limit."""
        return utilisation(METRIC_OF[self.limit], self.predicted, self.bound)


def limit_slacks(chosen: Candidate, request: Request, budget_gib: float) -> tuple[LimitSlack, ...]:
    """Every limit that holds, the binding one first: the one least likely to be kept, of equal ones the one most used up.

    `budget_gib` is what `Planner.budget_gib` says of the request. Cheap: nothing is priced.
    """
    chances = dict(chosen.probabilities)
    found = [
        LimitSlack(
            limit=limit,
            bound=asked,
            predicted=predicted,
            probability=chances[limit],
            is_device_memory=limit == MEMORY and asked != request.limits.memory_gib_per_device,
        )
        for limit, asked in bounds(request.limits, budget_gib).items()
        if (predicted := _predicted(chosen, limit)) is not None
    ]
    return tuple(sorted(found, key=lambda standing: (round(standing.probability / ALIKE), -standing.utilisation)))


def by_limit(found: tuple[LimitSlack, ...]) -> Mapping[str, LimitSlack]:
    """The same by field name of `Limits`."""
    return {standing.limit: standing for standing in found}


def _predicted(chosen: Candidate, limit: str) -> Value | None:
    value: Value | None = getattr(chosen.metrics, METRIC_OF[limit].name)
    return value
