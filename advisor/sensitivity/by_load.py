"""What would let a technique in: more or fewer requests, longer or shorter texts, a prefix that prompts share."""

from collections.abc import Iterator
from itertools import islice

from advisor.planning.reasons import effects
from advisor.profiles.request import Load, Request, Workload
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome, Scenario, outcome_of, violates_quality

MOST = 2
"""Multiples that are told."""
STEPS = (2, 4)
"""How many times more, or less, of each number is tried."""
LEAPS = tuple(2**power for power in range(1, 13))
"""The same where nothing is priced, as the technique is refused."""


def by_load(case: Scenario) -> Iterator[Change]:
    """For each number of the workload the nearest multiple, up and down, with which the technique comes first."""
    found = case.with_technique(case.request)
    refused = isinstance(found, str)
    if not isinstance(found, str) and violates_quality(case, found):
        return
    yield from islice(_multiples(case, refused), MOST)
    if refused and case.request.workload.shared_prefix_tokens is None:
        yield from _shared_prefix(case)


def _multiples(case: Scenario, refused: bool) -> Iterator[Change]:
    for field, factors in _directions(LEAPS if refused else STEPS):
        for factor in factors:
            asked = _scaled(case, field, factor)
            if asked is None:
                break
            if change := _change(case, field, asked, refused):
                yield change
                break


def _directions(steps: tuple[int, ...]) -> Iterator[tuple[str, tuple[float, ...]]]:
    for field in ("concurrency", "prompt_tokens", "output_tokens"):
        yield field, steps
        yield field, tuple(1 / step for step in steps)


def _scaled(case: Scenario, field: str, factor: float) -> Request | None:
    """The request with one number of its workload scaled; `None` where this load has no such number, or the model's limit is passed."""
    workload = case.request.workload
    now = getattr(workload, field)
    if now is None or workload.trace is not None or (field == "concurrency" and workload.load not in (Load.CLOSED, Load.BURST)):
        return None
    wanted = int(now * factor)
    changed = workload.model_copy(update={field: wanted})
    longest = max(workload.longest_tokens, changed.context_tokens)
    if wanted < max(1, workload.shared_prefix_tokens or 1 if field == "prompt_tokens" else 1):
        return None
    if longest > case.planner.model.max_context_tokens:
        return None
    return case.request.model_copy(update={"workload": changed.model_copy(update={"context_limit_tokens": longest})})


def _change(case: Scenario, field: str, asked: Request, refused: bool) -> Change | None:
    """The change, where the technique does better by it: allowed where it was refused, first where it was behind."""
    tried = case.trial(asked)
    if tried is None:
        return None
    found, outcome = tried
    if outcome is not CounterfactualOutcome.AHEAD and not (refused and outcome is CounterfactualOutcome.ALLOWED):
        return None
    if found.violations and not case.chosen.violations:
        return None
    alone = case.without_technique(asked)
    if not refused and alone is not None and not effects(alone.metrics, found.metrics):
        return None
    before, after = (getattr(request.workload, field) for request in (case.request, asked))
    return Change(kind=ChangeKind.LOAD, name=field, before=before, after=after, outcome=outcome, candidate=found, request=asked)


def _shared_prefix(case: Scenario) -> Iterator[Change]:
    """Half of each prompt is the same."""
    workload: Workload = case.request.workload
    shared = max(workload.prompt_tokens // 2, 1)
    asked = case.request.model_copy(update={"workload": workload.model_copy(update={"shared_prefix_tokens": shared})})
    tried = case.trial(asked)
    if tried is None and (partner := case.with_exchange(asked)):
        tried = partner[2], outcome_of(case.planner, partner[2], case.without_technique(asked), asked)
    if tried is not None:
        found, outcome = tried
        yield Change(
            kind=ChangeKind.LOAD, name="shared_prefix_tokens", before=None, after=shared, outcome=outcome, candidate=found, request=asked
        )
