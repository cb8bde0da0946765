"""Every plan worth a look: the frontier as simulated, and of all others one of each kind, priced in closed form. For screens."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from advisor.advice import Advice, Candidate, Status
from advisor.planner import Planner, candidate_id, stack_of
from advisor.profiles.request import Request
from advisor.ranking import Columns, Judged, judge, misses, status
from advisor.reasons import reasons

if TYPE_CHECKING:  # numpy takes a tenth of a second to import; the functions that need it do
    from numpy import intp
    from numpy.typing import NDArray

    from advisor.priced import Priced

MOST_EACH = 96
"""Plans of each standing beside the frontier: more than two hundred rows nobody reads."""
ALIKE = 0.03
"""Plans whose numbers all lie in the same step of 3 % are one row."""


class Zone(StrEnum):
    """How a plan stands among all others."""

    FRONTIER = "frontier"
    FEASIBLE = "feasible"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Spot:
    """One plan of the landscape."""

    candidate: Candidate
    zone: Zone
    simulated: bool
    """Whether its numbers come from a simulation, as a plan file's do; else from the closed form."""

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id


def landscape(planner: Planner, advice: Advice) -> tuple[Spot, ...]:
    """The frontier in the order of rank, then feasible plans by rank, then rejected ones by how little they miss."""
    request, priced = advice.request, planner.priced(advice.request)
    judged = judge(priced.columns, request, planner.budget_gib(request))
    order = judged.order
    fits = ~judged.misses_any[order]
    top = [Spot(candidate, _zone(candidate, True), True) for candidate in advice.ranked]
    known = {spot.id for spot in top}
    rest = [
        Spot(candidate, _zone(candidate, False), False)
        for places in (order[fits], order[~fits])
        for place in _distinct(priced.columns, places)
        if (candidate := _candidate(priced, judged, place, planner, request)).id not in known
    ]
    return (*top, *rest)


def advice_for(planner: Planner, advice: Advice, candidate: Candidate) -> Advice:
    """The same answer with another plan chosen: simulated, and with reasons of its own."""
    if candidate.id == advice.chosen.id:
        return advice
    request = advice.request
    chosen = planner.candidate(stack_of(candidate), request)
    others = tuple(other for other in advice.ranked if other.id != chosen.id)
    return dataclasses.replace(
        advice,
        chosen=chosen,
        ranked=(chosen, *others),
        reasons=tuple(reasons(planner, chosen, request)),
        binding=max(chosen.misses, key=lambda miss: miss.ratio) if chosen.misses else None,
        outside=planner.estimator.domain(chosen.deployment, request.workload),
    )


def _zone(candidate: Candidate, best: bool) -> Zone:
    if candidate.status is Status.MISSES:
        return Zone.REJECTED
    return Zone.FRONTIER if best else Zone.FEASIBLE


def _candidate(priced: "Priced", judged: Judged, place: int, planner: Planner, request: Request) -> Candidate:
    stack, metrics = priced.stacks[place], priced.metrics(place)
    missed = misses(metrics, request.limits, planner.budget_gib(request))
    chances = tuple((limit, float(chance[place])) for limit, chance in judged.chances.items())
    verdict = status(float(judged.probability[place]), missed)
    return Candidate(candidate_id(stack), stack.techniques, stack.deployment, metrics, verdict, missed, chances)


def _distinct(columns: Columns, places: "NDArray[intp]") -> list[int]:
    """The first places, of stacks whose numbers are alike only the first."""
    # Deferred: see above.
    import numpy as np

    if not len(places):
        return []
    logs = [np.log(np.maximum(np.nan_to_num(column.value[places]), 1e-9)) / ALIKE for column in columns.metrics.values()]
    _, first = np.unique(np.round(np.array(logs)), axis=1, return_index=True)
    return [int(places[at]) for at in np.sort(first)[:MOST_EACH]]
