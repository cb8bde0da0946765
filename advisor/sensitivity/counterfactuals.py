"""Counterfactuals: changes of the request that admit a technique that is not in the plan, each planned again."""

from collections.abc import Iterator

from advisor.backends.technique import Technique
from advisor.planning.advice import Candidate
from advisor.planning.planner import Planner
from advisor.planning.reasons import changed_noticeably
from advisor.profiles.request import Prefer, Request
from advisor.quantities.formatting import on_the_safe_side
from advisor.quantities.limits import LIMITS, MEMORY, METRIC_OF
from advisor.quantities.metrics import worse_end
from advisor.sensitivity.by_load import by_load
from advisor.sensitivity.by_machine import by_machine
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome, Scenario, new_violations, outcome_of
from advisor.sensitivity.marginal_gain import with_limit


def counterfactuals(planner: Planner, chosen: Candidate, request: Request, technique: type[Technique]) -> Iterator[Change]:
    """Generate changes of the request that admit a technique that is not in the plan, the smallest kinds of change first.

    Each `next` prices or plans again, so iterate in a worker and stop when enough are known. The last change requires the technique by
    name. Yields nothing for a technique of the plan, and for one that the model refuses under every request.
    """
    if technique.name in chosen.names:
        return
    scenario = Scenario(planner, chosen, request, technique)
    for find in (by_permission, by_techniques, by_limits, by_preference, by_load, by_machine, by_name):
        yield from find(scenario)


def by_permission(scenario: Scenario) -> Iterator[Change]:
    """The technique is no longer forbidden."""
    name = scenario.kind.name
    if name not in scenario.request.forbid:
        return
    allowed = scenario.request.model_copy(update={"forbid": tuple(other for other in scenario.request.forbid if other != name)})
    if trial := scenario.trial(allowed):
        candidate, outcome = trial
        # The plan is the best without the technique, so a candidate that ranks before it would be chosen.
        outcome = CounterfactualOutcome.CHOSEN if outcome is CounterfactualOutcome.AHEAD else outcome
        yield Change(
            kind=ChangeKind.ALLOW, name=name, before="forbidden", after="allowed", outcome=outcome, candidate=candidate, request=allowed
        )


def by_techniques(scenario: Scenario) -> Iterator[Change]:
    """Where the technique refuses the others of the plan: which one to remove, exchange or add."""
    if scenario.refusal is None:
        return
    if exchange := scenario.with_exchange(scenario.request):
        removed, added, candidate = exchange
        yield Change(
            kind=ChangeKind.TECHNIQUE,
            name=added or removed or "",
            before=removed,
            after=added,
            outcome=outcome_of(scenario.planner, candidate, scenario.chosen, scenario.request),
            candidate=candidate,
            request=scenario.request,
        )


def by_limits(scenario: Scenario) -> Iterator[Change]:
    """The one limit that the technique violates, loosened; else each limit on a metric that it improves, tightened."""
    candidate = scenario.with_technique(scenario.request)
    if isinstance(candidate, str):
        return
    violated = new_violations(scenario, candidate)
    if len(violated) == 1:
        yield from _loosened(scenario, candidate, *next(iter(violated.items())))
    elif not violated:
        for limit in METRIC_OF:
            yield from _tightened(scenario, candidate, limit)


def by_preference(scenario: Scenario) -> Iterator[Change]:
    """Each other preference for which the search chooses the technique."""
    if scenario.refusal is not None:
        return
    before = scenario.request.prefer
    for prefer in Prefer:
        request = scenario.request.model_copy(update={"prefer": prefer})
        if prefer is not before and (chosen := scenario.replanned(request)) is not None:
            yield Change(
                kind=ChangeKind.PREFERENCE,
                name="prefer",
                before=before.value,
                after=prefer.value,
                outcome=CounterfactualOutcome.CHOSEN,
                candidate=chosen,
                request=request,
            )


def by_name(scenario: Scenario) -> Iterator[Change]:
    """The technique is required by name; some techniques are in no plan otherwise."""
    name, request = scenario.kind.name, scenario.request
    requiring = request.model_copy(update={"require": (*request.require, name), "forbid": tuple(x for x in request.forbid if x != name)})
    trial = scenario.trial(requiring)
    candidate = trial[0] if trial else (exchange[2] if (exchange := scenario.with_exchange(requiring)) else None)
    if candidate is not None:
        misses = outcome_of(scenario.planner, candidate, scenario.chosen, requiring) is CounterfactualOutcome.MISSES
        outcome = CounterfactualOutcome.MISSES if misses else CounterfactualOutcome.CHOSEN
        yield Change(
            kind=ChangeKind.REQUIRE, name=name, before=None, after="required", outcome=outcome, candidate=candidate, request=requiring
        )


def _loosened(scenario: Scenario, candidate: Candidate, limit: str, needed: float) -> Iterator[Change]:
    """The violated limit at the predicted value, or at the end of its range, whichever is first to make the search choose the technique.

    Where neither does, the limit at the predicted value, with the outcome there.
    """
    if limit == MEMORY and needed > scenario.planner.budget_gib(with_limit(scenario.request, MEMORY, None)):
        return  # more memory than the device has is no limit
    metric = METRIC_OF[limit]
    for value in (needed, worse_end(metric, getattr(candidate.metrics, metric.name))):
        bound = on_the_safe_side(value, up=not metric.higher_is_better)
        if bound > 0 and (change := _if_chosen(scenario, limit, bound)) is not None:
            yield change
            return
    bound = on_the_safe_side(needed, up=not metric.higher_is_better)
    request, before = with_limit(scenario.request, limit, bound), scenario.request.limits.bound(limit)
    if trial := scenario.trial(request):
        yield Change(kind=ChangeKind.LIMIT, name=limit, before=before, after=bound, outcome=trial[1], candidate=trial[0], request=request)


def _tightened(scenario: Scenario, candidate: Candidate, limit: str) -> Iterator[Change]:
    """The loosest bound of two, halfway to the candidate's value and at it, that makes the search choose the technique."""
    metric = METRIC_OF[limit]
    own, others = (getattr(plan.metrics, metric.name) for plan in (scenario.chosen, candidate))
    if own is None or others is None or not changed_noticeably(own.value, others.value):
        return
    if (others.value > own.value) != metric.higher_is_better or LIMITS[limit].is_load:
        return
    for value in ((own.value + others.value) / 2, others.value):
        bound = on_the_safe_side(value, up=not metric.higher_is_better)
        if (change := _if_chosen(scenario, limit, bound)) is not None:
            yield change
            return


def _if_chosen(scenario: Scenario, limit: str, bound: float) -> Change | None:
    """The change of a limit to a bound, where the search then chooses the technique."""
    request = with_limit(scenario.request, limit, bound)
    chosen = scenario.replanned(request)
    if chosen is None:
        return None
    return Change(
        kind=ChangeKind.LIMIT,
        name=limit,
        before=scenario.request.limits.bound(limit),
        after=bound,
        outcome=CounterfactualOutcome.CHOSEN,
        candidate=chosen,
        request=request,
    )
