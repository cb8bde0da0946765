"""How a request becomes advice, stage by stage. Start here to read the planner."""

from collections.abc import Sequence
from dataclasses import replace

from advisor.estimate.memory.capacity import cache_size
from advisor.estimate.uncertainty.domain import extrapolation_warning
from advisor.planning.advice import Advice, Candidate, Status
from advisor.planning.arithmetic import arithmetic_reason
from advisor.planning.candidates import best_of
from advisor.planning.layouts import layout_reason, layout_warnings
from advisor.planning.planner import Planner
from advisor.planning.pricing import PricedStacks
from advisor.planning.ranking import FINALISTS, OBJECTIVES, Verdicts, evaluate, frontier, order, representatives
from advisor.planning.reasons import reasons
from advisor.planning.relaxations import relaxations
from advisor.planning.search import Stack, requirement_refused, search
from advisor.profiles.request import Request

MOST_PLANS = 8
"""Plans of the frontier in an answer."""


def advise(planner: Planner, request: Request) -> Advice:
    """Answer a request: the best stack of techniques under its limits, with alternatives and reasons.

    Where no stack is feasible, the chosen plan violates the limits least, and `relaxations` lists what would make one feasible.
    Raises `AdvisorError` `requirement-refused` where no stack has the required techniques.
    """
    stacks = search(planner.model, request, planner.engine, planner.dtypes)
    priced = planner.price(stacks, request)
    verdicts = rank(planner, priced, request)
    finalists = [planner.simulate(priced.stacks[index], request) for index in finalist_indices(priced, verdicts)]
    plans = frontier_plans(planner, finalists, request)
    return explain(planner, priced, verdicts, plans, request)


def price_all(planner: Planner, request: Request) -> PricedStacks:
    """The first two stages of `advise`: every stack of the search, with its metrics in closed form."""
    return planner.price(search(planner.model, request, planner.engine, planner.dtypes), request)


def rank(planner: Planner, priced: PricedStacks, request: Request) -> Verdicts:
    """Compare every stack with the limits and rank them by their metrics in closed form. Raises as `advise` does."""
    if not priced.stacks:
        raise requirement_refused(planner.model, request, planner.engine, planner.dtypes)
    return evaluate(priced.columns, request, planner.budget_gib(request))


def finalist_indices(priced: PricedStacks, verdicts: Verdicts) -> list[int]:
    """The stacks worth simulating: the best by rank, one of those with equal metrics, and the best feasible one by each objective."""
    ordered = verdicts.order
    picked = representatives(priced.columns, ordered, verdicts.cost[ordered])
    feasible = ordered[~verdicts.infeasible[ordered]]
    eligible = feasible if len(feasible) else ordered[:FINALISTS]
    for metric, sign in OBJECTIVES.items():
        picked.append(eligible[(sign * priced.columns.metrics[metric].value[eligible]).argmin()])
    return list(dict.fromkeys(int(index) for index in picked))


def frontier_plans(planner: Planner, finalists: Sequence[Candidate], request: Request) -> list[Candidate]:
    """The finalists on the Pareto frontier, best first, at most `MOST_PLANS`: all feasible, or all infeasible where the best one is."""
    ordered = order(finalists, request, planner.budget_gib(request))
    feasible = ordered[0].status is not Status.INFEASIBLE
    return [plan for plan in frontier(ordered) if feasible or plan.status is Status.INFEASIBLE][:MOST_PLANS]


def explain(planner: Planner, priced: PricedStacks, verdicts: Verdicts, plans: Sequence[Candidate], request: Request) -> Advice:
    """The answer with a reason for each technique, and with relaxations where the best plan is infeasible."""
    chosen = plans[0]
    feasible = chosen.status is not Status.INFEASIBLE
    return replace(
        unexplained(planner, verdicts, plans, request),
        reasons=tuple(reasons(planner, chosen, request)),
        relaxations=() if feasible else tuple(relaxations(planner, priced, verdicts, chosen, request)),
        layout_reason=layout_reason(planner, priced, verdicts, chosen, request),
        extrapolation_warning=extrapolation_warning(planner.estimator.machine.basis, chosen.deployment, request.workload),
    )


def unexplained(planner: Planner, verdicts: Verdicts, plans: Sequence[Candidate], request: Request) -> Advice:
    """The answer without reasons, relaxations and the extrapolation warning. `plans` are ranked, best first."""
    return Advice(
        request=request,
        model=planner.model,
        hardware=planner.hardware,
        profile=planner.profile,
        chosen=plans[0],
        ranked=tuple(plans),
        reasons=(),
        relaxations=(),
        binding=plans[0].worst_violation,
        considered=len(verdicts.violation),
        feasible=int((~verdicts.infeasible).sum()),
        budget_gib=planner.budget_gib(request),
        warnings=tuple(layout_warnings(plans[0].deployment.parallel, planner.hardware, request.workload)),
        arithmetic_reason=arithmetic_reason(planner.estimator.machine, plans[0].deployment),
        cache=cache_size(plans[0].deployment, request.workload, planner.estimator.engine),
    )


def finalists(planner: Planner, request: Request) -> list[Stack]:
    """The stacks that `advise` simulates: no other is chosen. Raises as `advise` does."""
    priced = price_all(planner, request)
    return [priced.stacks[index] for index in finalist_indices(priced, rank(planner, priced, request))]


def choose(planner: Planner, request: Request) -> Candidate:
    """The plan that `advise` chooses, without reasons and alternatives. Raises as `advise` does."""
    simulated = [planner.simulate(stack, request) for stack in finalists(planner, request)]
    return best_of(simulated, request, planner.budget_gib(request))
