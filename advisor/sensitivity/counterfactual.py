"""A plan and a technique that is not in it, compared under a changed request or on another machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.technique import Technique
from advisor.backends.technique_names import settings_of
from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Candidate
from advisor.planning.advise import choose, finalists
from advisor.planning.candidates import best_of
from advisor.planning.planner import Planner
from advisor.planning.reasons import baseline_of, best_stack_with
from advisor.planning.search import Stack, apply_on_paper, max_concurrent
from advisor.profiles.request import Request

MOST_EXCHANGES = 3
"""Most exchanges of another technique that are simulated."""


class ChangeKind(StrEnum):
    """The part of a request that a change concerns."""

    ALLOW = "allow"
    """The technique is no longer forbidden."""
    TECHNIQUE = "technique"
    """Another technique is added, removed or exchanged."""
    LIMIT = "limit"
    PREFERENCE = "preference"
    LOAD = "load"
    MACHINE = "machine"
    REQUIRE = "require"
    """The technique is required by name."""


class CounterfactualOutcome(StrEnum):
    """The effect of a change on a technique."""

    CHOSEN = "chosen"
    """The whole search chooses a plan with the technique."""
    AHEAD = "ahead"
    """The plan with the technique ranks before the plan without it; the search was not repeated."""
    ALLOWED = "allowed"
    """The technique is not refused and violates no further limit, but the plan without it ranks first."""
    MISSES = "misses"
    """The plan with the technique violates a limit that the plan without it meets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of the request that admits a technique."""

    kind: ChangeKind
    name: str
    """Name of a limit, a field of `Workload`, a technique, `prefer`, `devices` or `hardware`."""
    before: float | str | None
    after: float | str | None
    outcome: CounterfactualOutcome
    candidate: Candidate
    """A plan with the technique under the changed request."""
    request: Request
    """The changed request; the same one where another machine is the change."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan, and a technique that is not in it."""

    planner: Planner
    chosen: Candidate
    request: Request
    kind: type[Technique]

    @property
    def refusal(self) -> str | None:
        """Why the technique refuses this plan; `None` where it does not."""
        answer = self.with_technique(self.request)
        return answer if isinstance(answer, str) else None

    def with_technique(self, request: Request, planner: Planner | None = None, start: Deployment | None = None) -> Candidate | str:
        """The plan with the technique under a request, or on another machine; the reason where it is refused there."""
        start = start or self.start(request)
        return best_stack_with(planner or self.planner, self.chosen.techniques, start, self.kind, request)

    def without_technique(self, request: Request, planner: Planner | None = None, start: Deployment | None = None) -> Candidate | None:
        """The plan as it is under a request, or on another machine; `None` where one of its techniques refuses that."""
        stack = apply_on_paper(self.chosen.techniques, start or self.start(request), request)
        return (planner or self.planner).simulate(stack, request) if isinstance(stack, Stack) else None

    def start(self, request: Request) -> Deployment:
        """The unmodified model in the plan's parallel layout, with the concurrent sequences of a request."""
        parallel = self.chosen.deployment.parallel
        if request.workload == self.request.workload:
            return baseline_of(self.chosen.deployment)
        sequences = max_concurrent(request, parallel)
        chosen = self.chosen.deployment
        return baseline(self.planner.model, max_sequences=sequences, parallel=parallel, engine=chosen.engine, dtypes=chosen.device_dtypes)

    def start_on(self, planner: Planner) -> Deployment:
        """The unmodified model in the plan's parallel layout as it runs on another planner's machine."""
        chosen = self.chosen.deployment
        sequences, dtypes = max_concurrent(self.request, chosen.parallel), planner.dtypes
        return baseline(planner.model, max_sequences=sequences, parallel=chosen.parallel, engine=chosen.engine, dtypes=dtypes)

    def trial(
        self, request: Request, planner: Planner | None = None, start: Deployment | None = None
    ) -> tuple[Candidate, CounterfactualOutcome] | None:  # fmt: skip
        """The plan with the technique under a request, compared with the plan without it; `None` where it is refused."""
        candidate = self.with_technique(request, planner, start)
        if isinstance(candidate, str):
            return None
        return candidate, outcome_of(planner or self.planner, candidate, self.without_technique(request, planner, start), request)

    def with_exchange(self, request: Request) -> tuple[str | None, str | None, Candidate] | None:
        """The best plan with the technique in which one other technique is exchanged: what is removed, what is added, and the plan."""
        plans: dict[str, tuple[str | None, str | None, Candidate]] = {}
        for removed, added, stack in self._exchanges(request):
            if len(plans) == MOST_EXCHANGES:
                break
            if (name := added or removed or "") not in plans:
                plans[name] = (removed, added, self.planner.simulate(stack, request))
        if not plans:
            return None
        best = best_of([candidate for _, _, candidate in plans.values()], request, self.planner.budget_gib(request))
        return next(plan for plan in plans.values() if plan[2] is best)

    def _exchanges(self, request: Request) -> Iterator[tuple[str | None, str | None, Stack]]:
        """Stacks with the technique in which one other slot of the plan has another technique, or none."""
        rest = tuple(other for other in self.chosen.techniques if other.slot is not self.kind.slot)
        for kind in TECHNIQUES:
            if kind.slot is self.kind.slot or kind.name in (*request.forbid, *self.chosen.names):
                continue
            removed = next((other.name for other in rest if other.slot is kind.slot), None)
            others = tuple(other for other in rest if other.slot is not kind.slot)
            if (stack := self._stack_with((*others, kind()), request)) is not None:
                yield removed, kind.name, stack
        for removed_technique in rest:
            others = tuple(other for other in rest if other is not removed_technique)
            if (stack := self._stack_with(others, request)) is not None:
                yield removed_technique.name, None, stack

    def _stack_with(self, others: tuple[Technique, ...], request: Request) -> Stack | None:
        """The other techniques with the technique in the first setting that is not refused."""
        stacks = (apply_on_paper((*others, technique), self.start(request), request) for technique in settings_of(self.kind, request))
        return next((stack for stack in stacks if isinstance(stack, Stack)), None)

    def replanned(self, request: Request) -> Candidate | None:
        """The plan that the whole search chooses for a request; `None` where that is without the technique."""
        if not any(self.kind.name in stack.names for stack in finalists(self.planner, request)):
            return None
        chosen = choose(self.planner, request)
        return chosen if self.kind.name in chosen.names else None


def outcome_of(planner: Planner, candidate: Candidate, without: Candidate | None, request: Request) -> CounterfactualOutcome:
    """How a plan with the technique compares with the plan without it."""
    violated = {violation.limit for violation in without.violations} if without is not None else set()
    if any(violation.limit not in violated for violation in candidate.violations):
        return CounterfactualOutcome.MISSES
    if without is None or best_of([without, candidate], request, planner.budget_gib(request)) is candidate:
        return CounterfactualOutcome.AHEAD
    return CounterfactualOutcome.ALLOWED


def violates_quality(scenario: Scenario, candidate: Candidate) -> bool:
    """Whether the quality limit is among the new violations, which no machine and no load removes."""
    return "quality_loss_pct" in new_violations(scenario, candidate)


def new_violations(scenario: Scenario, candidate: Candidate) -> dict[str, float]:
    """The limits that the plan meets and the candidate violates, each with the predicted value."""
    violated = {violation.limit for violation in scenario.chosen.violations}
    return {violation.limit: violation.predicted.value for violation in candidate.violations if violation.limit not in violated}
