"""The plans that are shown: the simulated frontier, and one stack of each similarity group of all others, priced in closed form."""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from advisor.estimate.arrays import Indices
from advisor.estimate.uncertainty.domain import extrapolation_warning
from advisor.planning.advice import Advice, Candidate, Status
from advisor.planning.advise import finalist_indices, frontier_plans, price_all, rank, unexplained
from advisor.planning.candidates import closed_form_candidate, stack_of
from advisor.planning.planner import Planner
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import Verdicts
from advisor.planning.reasons import reasons
from advisor.profiles.request import Request

MOST_PER_FEASIBILITY = 48
"""Most feasible and most infeasible plans outside the frontier: a table of more than a hundred rows is not read, and slow to draw."""


class Feasibility(StrEnum):
    """Whether a plan is on the frontier, feasible or infeasible."""

    FRONTIER = "frontier"
    FEASIBLE = "feasible"
    INFEASIBLE = "rejected"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One plan that a request can be answered with."""

    candidate: Candidate
    feasibility: Feasibility
    simulated: bool
    """Whether its metrics come from a simulation, as those of a plan file do, and not from the closed form."""

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id


def alternatives(planner: Planner, advice: Advice) -> tuple[Alternative, ...]:
    """The frontier by rank, then feasible plans by rank, then infeasible ones by how far they violate the limits."""
    request = advice.request
    priced = price_all(planner, request)
    return _with_others(
        planner, request, priced, rank(planner, priced, request), _frontier(advice.ranked, {plan.id for plan in advice.ranked})
    )


def preview(planner: Planner, request: Request) -> tuple[Advice, tuple[Alternative, ...]]:
    """An answer without simulations and without reasons, and its alternatives. Cached simulations are used. Raises as `advise` does."""
    priced = price_all(planner, request)
    verdicts = rank(planner, priced, request)
    candidates, simulated = [], set()
    for index in finalist_indices(priced, verdicts):
        cached = planner.cached_simulation(priced.stacks[index], request)
        candidates.append(cached or closed_form_candidate(priced, verdicts, index, request, planner.budget_gib(request)))
        if cached is not None:
            simulated.add(cached.id)
    plans = frontier_plans(planner, candidates, request)
    return unexplained(planner, verdicts, plans, request), _with_others(planner, request, priced, verdicts, _frontier(plans, simulated))


def advice_for(planner: Planner, advice: Advice, candidate: Candidate) -> Advice:
    """The same answer with another plan chosen: simulated, and with reasons of its own."""
    if candidate.id == advice.chosen.id:
        return advice
    request = advice.request
    chosen = planner.simulate(stack_of(candidate), request)
    others = tuple(other for other in advice.ranked if other.id != chosen.id)
    return dataclasses.replace(
        advice,
        chosen=chosen,
        ranked=(chosen, *others),
        reasons=tuple(reasons(planner, chosen, request)),
        binding=chosen.worst_violation,
        extrapolation_warning=extrapolation_warning(planner.estimator.machine.basis, chosen.deployment, request.workload),
    )


def with_simulated(plans: Sequence[Alternative], candidate: Candidate) -> tuple[Alternative, ...]:
    """The same plans, with the simulated metrics of one of them in place of those in closed form."""
    return tuple(_simulated(plan, candidate) if plan.id == candidate.id else plan for plan in plans)


def _simulated(plan: Alternative, candidate: Candidate) -> Alternative:
    return Alternative(candidate, plan.feasibility if plan.simulated else _feasibility(candidate, on_frontier=False), True)


def _frontier(plans: Sequence[Candidate], simulated: Collection[str]) -> list[Alternative]:
    return [Alternative(plan, _feasibility(plan, on_frontier=True), plan.id in simulated) for plan in plans]


def _feasibility(candidate: Candidate, *, on_frontier: bool) -> Feasibility:
    if candidate.status is Status.INFEASIBLE:
        return Feasibility.INFEASIBLE
    return Feasibility.FRONTIER if on_frontier else Feasibility.FEASIBLE


def _with_others(
    planner: Planner, request: Request, priced: PricedStacks, verdicts: Verdicts, frontier: Sequence[Alternative]
) -> tuple[Alternative, ...]:  # fmt: skip
    """The frontier, then other stacks in closed form: the feasible before the infeasible, each best first."""
    shown, budget_gib = {plan.id for plan in frontier}, planner.budget_gib(request)
    feasible = ~verdicts.infeasible[verdicts.order]
    others = [
        Alternative(candidate, _feasibility(candidate, on_frontier=False), False)
        for indices in (verdicts.order[feasible], verdicts.order[~feasible])
        for index in _representatives(priced, indices)
        if (candidate := closed_form_candidate(priced, verdicts, index, request, budget_gib)).id not in shown
    ]
    return (*frontier, *others)


def _representatives(priced: PricedStacks, indices: Indices) -> list[int]:
    """The first index of each similarity group, at most `MOST_PER_FEASIBILITY`."""
    _, first = np.unique(priced.similarity_groups[indices], return_index=True)
    return [int(indices[position]) for position in np.sort(first)[:MOST_PER_FEASIBILITY]]
