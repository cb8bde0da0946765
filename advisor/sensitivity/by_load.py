"""Counterfactuals by load: more or fewer concurrent requests, longer or shorter lengths, a shared prefix."""

from collections.abc import Iterator
from itertools import islice

from advisor.planning.reasons import effects
from advisor.profiles.request import Load, Request, UseCase
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome, Scenario, outcome_of, violates_quality

MOST_CHANGES = 2
"""Most multiples of workload numbers that are yielded."""
FACTORS = (2, 4)
"""Multiples and fractions of each number that are tried."""
FACTORS_WHERE_REFUSED = tuple(2**power for power in range(1, 13))
"""The same where the technique is refused, as a refusal needs no simulation."""


def by_load(scenario: Scenario) -> Iterator[Change]:
    """For each number of the workload, the nearest multiple and fraction with which the technique ranks first."""
    candidate = scenario.with_technique(scenario.request)
    refused = isinstance(candidate, str)
    if not isinstance(candidate, str) and violates_quality(scenario, candidate):
        return
    yield from islice(_multiples(scenario, refused), MOST_CHANGES)
    if refused and scenario.request.workload.shared_prefix_tokens is None:
        yield from _shared_prefix(scenario)
    if refused and scenario.request.workload.use_case is UseCase.UNKNOWN:
        yield from islice(_use_cases(scenario), 1)


def _multiples(scenario: Scenario, refused: bool) -> Iterator[Change]:
    for field, factors in _directions(FACTORS_WHERE_REFUSED if refused else FACTORS):
        for factor in factors:
            request = _scaled(scenario, field, factor)
            if request is None:
                break
            if change := _change(scenario, field, request, refused):
                yield change
                break


def _directions(factors: tuple[int, ...]) -> Iterator[tuple[str, tuple[float, ...]]]:
    for field in ("concurrency", "prompt_tokens", "output_tokens"):
        yield field, factors
        yield field, tuple(1 / factor for factor in factors)


def _scaled(scenario: Scenario, field: str, factor: float) -> Request | None:
    """The request with one number of its workload scaled; `None` where this load has no such number, or the model's context is exceeded."""
    workload = scenario.request.workload
    before = getattr(workload, field)
    if before is None or workload.trace is not None or (field == "concurrency" and workload.load not in (Load.CLOSED, Load.BURST)):
        return None
    after = int(before * factor)
    scaled = workload.model_copy(update={field: after})
    longest = max(workload.longest_tokens, scaled.context_tokens)
    if after < max(1, workload.shared_prefix_tokens or 1 if field == "prompt_tokens" else 1):
        return None
    if longest > scenario.planner.model.max_context_tokens:
        return None
    return scenario.request.model_copy(update={"workload": scaled.model_copy(update={"context_limit_tokens": longest})})


def _change(scenario: Scenario, field: str, request: Request, refused: bool) -> Change | None:
    """The change, where the technique ranks first by it, or is at least allowed where it was refused before."""
    trial = scenario.trial(request)
    if trial is None:
        return None
    candidate, outcome = trial
    if outcome is not CounterfactualOutcome.AHEAD and not (refused and outcome is CounterfactualOutcome.ALLOWED):
        return None
    if candidate.violations and not scenario.chosen.violations:
        return None
    without = scenario.without_technique(request)
    if not refused and without is not None and not effects(without.metrics, candidate.metrics):
        return None
    before, after = (getattr(workload, field) for workload in (scenario.request.workload, request.workload))
    return Change(kind=ChangeKind.LOAD, name=field, before=before, after=after, outcome=outcome, candidate=candidate, request=request)


def _use_cases(scenario: Scenario) -> Iterator[Change]:
    """Use cases in which a technique that is refused while it is unknown ranks first."""
    workload = scenario.request.workload
    for use_case in UseCase:
        request = scenario.request.model_copy(update={"workload": workload.model_copy(update={"use_case": use_case})})
        trial = scenario.trial(request) if use_case is not workload.use_case else None
        if trial is not None and trial[1] is CounterfactualOutcome.AHEAD:
            yield Change(
                kind=ChangeKind.LOAD,
                name="use_case",
                before=workload.use_case.value,
                after=use_case.value,
                outcome=trial[1],
                candidate=trial[0],
                request=request,
            )


def _shared_prefix(scenario: Scenario) -> Iterator[Change]:
    """Half of each prompt is a prefix that all share."""
    workload = scenario.request.workload
    shared = max(workload.prompt_tokens // 2, 1)
    request = scenario.request.model_copy(update={"workload": workload.model_copy(update={"shared_prefix_tokens": shared})})
    trial = scenario.trial(request)
    if trial is None and (exchange := scenario.with_exchange(request)):
        trial = exchange[2], outcome_of(scenario.planner, exchange[2], scenario.without_technique(request), request)
    if trial is not None:
        yield Change(
            kind=ChangeKind.LOAD,
            name="shared_prefix_tokens",
            before=None,
            after=shared,
            outcome=trial[1],
            candidate=trial[0],
            request=request,
        )
