"""Every plan worth a look: the frontier as simulated, and of all others one of each kind, priced in closed form. For screens."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from advisor.estimate.arrays import Indices
from advisor.planning.advice import Advice, Candidate, Status
from advisor.planning.planner import Planner, candidate_id
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import Verdicts
from advisor.planning.reasons import reasons
from advisor.planning.search import stack_of
from advisor.planning.violations import status, violations_of
from advisor.profiles.request import Request

MOST_EACH = 48
"""Plans of each standing beside the frontier: more than a hundred rows nobody reads, and a table draws itself no faster than they are."""


class Feasibility(StrEnum):
    """How a plan stands among all others."""

    FRONTIER = "frontier"
    FEASIBLE = "feasible"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One plan of the landscape."""

    candidate: Candidate
    zone: Feasibility
    simulated: bool
    """Whether its numbers come from a simulation, as a plan file's do; else from the closed form."""

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id


def alternatives(planner: Planner, advice: Advice) -> tuple[Alternative, ...]:
    """The frontier in the order of rank, then feasible plans by rank, then rejected ones by how little they miss."""
    priced, judged = planner.evaluated(advice.request)
    top = [Alternative(candidate, _zone(candidate, True), True) for candidate in advice.ranked]
    return (*top, *_others(planner, advice.request, priced, judged, {spot.id for spot in top}))


def preview(planner: Planner, request: Request) -> tuple[Advice, tuple[Alternative, ...]]:
    """What is known before anything is simulated: the same landscape in closed form, and an answer without reasons and ways out.

    Plans that were simulated before stand with those numbers. Raises as `advise` does.
    """
    priced, judged = planner.evaluated(request)
    candidates, simulated = [], set()
    for place in planner.finalist_indices(priced, judged):
        known = planner.simulated(priced.stacks[place], request)
        candidates.append(known or _candidate(priced, judged, place, planner, request))
        if known is not None:
            simulated.add(known.id)
    ranked = planner.frontier_of(candidates, request)
    top = [Alternative(candidate, _zone(candidate, True), candidate.id in simulated) for candidate in ranked]
    return planner.advice_without_reasons(request, ranked, judged), (
        *top,
        *_others(planner, request, priced, judged, {spot.id for spot in top}),
    )


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
        binding=chosen.worst_miss,
        extrapolation_warning=planner.estimator.domain(chosen.deployment, request.workload),
    )


def with_simulated(spots: Sequence[Alternative], candidate: Candidate) -> tuple[Alternative, ...]:
    """The same plans, one of them with the numbers of its simulation in place of the closed form's."""
    return tuple(_simulated(spot, candidate) if spot.id == candidate.id else spot for spot in spots)


def _simulated(spot: Alternative, candidate: Candidate) -> Alternative:
    return Alternative(candidate, spot.zone if spot.simulated else _zone(candidate, False), True)


def _zone(candidate: Candidate, best: bool) -> Feasibility:
    if candidate.status is Status.INFEASIBLE:
        return Feasibility.REJECTED
    return Feasibility.FRONTIER if best else Feasibility.FEASIBLE


def _others(planner: Planner, request: Request, priced: PricedStacks, judged: Verdicts, known: set[str]) -> list[Alternative]:
    """One of each kind in closed form, those that fit before those that do not, each best first."""
    order = judged.order
    fits = ~judged.infeasible[order]
    return [
        Alternative(candidate, _zone(candidate, False), False)
        for places in (order[fits], order[~fits])
        for place in _distinct(priced, places)
        if (candidate := _candidate(priced, judged, place, planner, request)).id not in known
    ]


def _candidate(priced: PricedStacks, judged: Verdicts, place: int, planner: Planner, request: Request) -> Candidate:
    stack = priced.stacks[place]
    if place not in priced.rows:
        priced.rows[place] = candidate_id(stack), priced.metrics(place)
    id, metrics = priced.rows[place]
    missed = violations_of(metrics, request.limits, planner.budget_gib(request))
    chances = tuple((limit, float(chance[place])) for limit, chance in judged.probabilities.items())
    verdict = status(float(judged.probability[place]), missed)
    return Candidate(id, stack.techniques, stack.deployment, metrics, verdict, missed, chances)


def _distinct(priced: PricedStacks, places: Indices) -> list[int]:
    """The first places, of stacks of one kind only the first."""
    _, first = np.unique(priced.similarity_groups[places], return_index=True)
    return [int(places[at]) for at in np.sort(first)[:MOST_EACH]]
