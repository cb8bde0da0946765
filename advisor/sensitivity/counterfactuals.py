"""What would let a technique into a plan that it is not in: changes of the question, each priced again by the one estimator."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from advisor.backends.technique import Technique
from advisor.planning.advice import Candidate
from advisor.planning.reasons import changed_noticeably
from advisor.profiles.request import Prefer, Request
from advisor.quantities.formatting import on_the_safe_side
from advisor.quantities.limits import MEMORY, METRIC_OF
from advisor.quantities.metrics import worse_end
from advisor.sensitivity.by_load import by_load
from advisor.sensitivity.by_machine import by_machine
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome, Scenario, new_violations, outcome_of
from advisor.sensitivity.marginal_gain import with_limit

if TYPE_CHECKING:
    from advisor.planning.planner import Planner


def counterfactuals(planner: "Planner", chosen: Candidate, request: Request, technique: type[Technique]) -> Iterator[Change]:
    """Changes that would let in a technique that is not in the plan, found one by one, the nearest kinds first.

    Each `next` prices or plans again: ask in a worker, and stop when enough was heard. The last one is to require the technique
    by name. Nothing comes where nothing that may be asked of this model helps, nor for a technique of the plan.
    """
    if technique.name in chosen.names:
        return
    case = Scenario(planner, chosen, request, technique)
    for find in (by_permission, by_techniques, by_limits, by_preference, by_load, by_machine, by_name):
        yield from find(case)


def by_permission(case: Scenario) -> Iterator[Change]:
    """The technique is no longer forbidden."""
    name = case.kind.name
    if name not in case.request.forbid:
        return
    allowed = case.request.model_copy(update={"forbid": tuple(other for other in case.request.forbid if other != name)})
    if tried := case.trial(allowed):
        found, outcome = tried
        # The plan is the best of all without the technique: what ranks before it is what planning again would find, or better.
        outcome = CounterfactualOutcome.CHOSEN if outcome is CounterfactualOutcome.AHEAD else outcome
        yield Change(
            kind=ChangeKind.ALLOW, name=name, before="forbidden", after="allowed", outcome=outcome, candidate=found, request=allowed
        )


def by_techniques(case: Scenario) -> Iterator[Change]:
    """Where the technique is refused beside the others of the plan: the one to take out, exchange or add for it."""
    if case.refusal is None:
        return
    if told := case.with_exchange(case.request):
        before, after, best = told
        outcome = outcome_of(case.planner, best, case.chosen, case.request)
        name = after or before or ""
        yield Change(
            kind=ChangeKind.TECHNIQUE, name=name, before=before, after=after, outcome=outcome, candidate=best, request=case.request
        )


def by_limits(case: Scenario) -> Iterator[Change]:
    """A limit loosened where the technique misses it; else each limit under which the technique does better, tightened."""
    found = case.with_technique(case.request)
    if isinstance(found, str):
        return
    missed = new_violations(case, found)
    if len(missed) == 1:
        yield from _loosened(case, found, *next(iter(missed.items())))
    elif not missed:
        for limit in METRIC_OF:
            yield from _tightened(case, found, limit)


def by_preference(case: Scenario) -> Iterator[Change]:
    """Another preference that chooses the technique."""
    if case.refusal is not None:
        return
    for prefer in Prefer:
        asked = case.request.model_copy(update={"prefer": prefer})
        if prefer is not case.request.prefer and (again := case.replanned(asked)) is not None:
            yield Change(
                kind=ChangeKind.PREFERENCE,
                name="prefer",
                before=case.request.prefer.value,
                after=prefer.value,
                outcome=CounterfactualOutcome.CHOSEN,
                candidate=again,
                request=asked,
            )


def by_name(case: Scenario) -> Iterator[Change]:
    """The request asks for the technique by name, which some techniques want and all obey."""
    name, request = case.kind.name, case.request
    asked = request.model_copy(update={"require": (*request.require, name), "forbid": tuple(x for x in request.forbid if x != name)})
    tried = case.trial(asked)
    found = tried[0] if tried else (partner[2] if (partner := case.with_exchange(asked)) else None)
    if found is not None:
        missed = outcome_of(case.planner, found, case.chosen, asked) is CounterfactualOutcome.MISSES
        outcome = CounterfactualOutcome.MISSES if missed else CounterfactualOutcome.CHOSEN
        yield Change(kind=ChangeKind.REQUIRE, name=name, before=None, after="required", outcome=outcome, candidate=found, request=asked)


def _loosened(case: Scenario, found: Candidate, limit: str, needed: float) -> Iterator[Change]:
    """The limit at the end of the range, if planning again then takes the technique; else at the value that it would have."""
    if limit == MEMORY and needed > case.planner.budget_gib(with_limit(case.request, MEMORY, None)):
        return  # no limit gives what the device lacks
    shown, before = METRIC_OF[limit], getattr(case.request.limits, limit)
    value = getattr(found.metrics, shown.name)
    for bound in (needed, worse_end(shown, value)):
        bound = on_the_safe_side(bound, up=not shown.higher_is_better)
        if bound <= 0:
            continue
        asked = with_limit(case.request, limit, bound)
        if (again := case.replanned(asked)) is not None:
            yield Change(
                kind=ChangeKind.LIMIT,
                name=limit,
                before=before,
                after=bound,
                outcome=CounterfactualOutcome.CHOSEN,
                candidate=again,
                request=asked,
            )
            return
    bound = on_the_safe_side(needed, up=not shown.higher_is_better)
    asked = with_limit(case.request, limit, bound)
    if tried := case.trial(asked):
        yield Change(kind=ChangeKind.LIMIT, name=limit, before=before, after=bound, outcome=tried[1], candidate=tried[0], request=asked)


def _tightened(case: Scenario, found: Candidate, limit: str) -> Iterator[Change]:
    """The limit where only the technique keeps it: as little as does, of half the way and all of it."""
    shown = METRIC_OF[limit]
    mine, theirs = (getattr(candidate.metrics, shown.name) for candidate in (case.chosen, found))
    if mine is None or theirs is None or not changed_noticeably(mine.value, theirs.value):
        return
    if (theirs.value > mine.value) != shown.higher_is_better or limit == "request_rate_per_s":
        return
    for bound in ((mine.value + theirs.value) / 2, theirs.value):
        bound = on_the_safe_side(bound, up=not shown.higher_is_better)
        asked = with_limit(case.request, limit, bound)
        if (again := case.replanned(asked)) is not None:
            before = getattr(case.request.limits, limit)
            yield Change(
                kind=ChangeKind.LIMIT,
                name=limit,
                before=before,
                after=bound,
                outcome=CounterfactualOutcome.CHOSEN,
                candidate=again,
                request=asked,
            )
            return
