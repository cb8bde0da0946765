"""How a request becomes advice, stage by stage: the place to begin reading the planner."""

from dataclasses import replace

from advisor.planning.advice import Advice, Status
from advisor.planning.planner import Planner
from advisor.planning.reasons import reasons
from advisor.planning.relaxations import relaxations
from advisor.profiles.request import Request


def advise(planner: Planner, request: Request) -> Advice:
    """Answer one request. Never empty: when nothing is feasible, the nearest stack leads.

    Raises `AdvisorError` `requirement-refused` where every stack with a required technique was refused.
    """
    priced, judged = planner.evaluated(request)
    finalists = planner.finalist_indices(priced, judged)
    kept = planner.frontier_of([planner.candidate(priced.stacks[place], request) for place in finalists], request)
    chosen = kept[0]
    fits = chosen.status is not Status.INFEASIBLE
    return replace(
        planner.advice_without_reasons(request, kept, judged),
        reasons=tuple(reasons(planner, chosen, request)),
        relaxations=() if fits else tuple(relaxations(planner, priced, judged, chosen, request)),
        extrapolation_warning=planner.estimator.domain(chosen.deployment, request.workload),
    )
