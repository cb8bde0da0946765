"""A plan, a technique that is not in it, and how the two do together when the question or the machine is changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.technique import Technique
from advisor.backends.technique_names import settings_of
from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Candidate
from advisor.planning.advise import choose, finalists
from advisor.planning.candidates import best_of
from advisor.planning.reasons import baseline_of, best_stack_with
from advisor.planning.search import Stack, apply_on_paper, max_concurrent
from advisor.profiles.request import Request

if TYPE_CHECKING:
    from advisor.planning.planner import Planner


MOST_PARTNERS = 3
"""Stacks with another technique changed that are simulated."""


class ChangeKind(StrEnum):
    """What a change is a change of."""

    ALLOW = "allow"
    """The request forbids the technique: it no longer does."""
    TECHNIQUE = "technique"
    """Another technique goes in, or comes out."""
    LIMIT = "limit"
    PREFERENCE = "preference"
    LOAD = "load"
    MACHINE = "machine"
    REQUIRE = "require"
    """The request asks for the technique by name."""


class CounterfactualOutcome(StrEnum):
    """What a change does, as far as it was computed."""

    CHOSEN = "chosen"
    """Planning again puts the technique into the plan."""
    AHEAD = "ahead"
    """The plan with the technique ranks before the plan without it; the whole search was not repeated."""
    ALLOWED = "allowed"
    """Nothing rules the technique out any more, but the plan without it still ranks first."""
    MISSES = "misses"
    """The technique is in, and the plan misses a limit that it keeps without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of the question after which a technique is let in."""

    kind: ChangeKind
    name: str
    """Field of `Limits` or `Workload`, a technique, `prefer`, `devices` or `hardware`."""
    before: float | str | None
    after: float | str | None
    outcome: CounterfactualOutcome
    candidate: Candidate
    """A plan with the technique, priced under the change."""
    request: Request
    """The question with the change made; the same one where the hardware changes."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan and a technique that is not in it."""

    planner: "Planner"
    chosen: Candidate
    request: Request
    kind: type[Technique]

    @property
    def refusal(self) -> str | None:
        """The sentence that refuses the technique in this plan, if one does."""
        found = self.with_technique(self.request)
        return found if isinstance(found, str) else None

    def with_technique(self, request: Request, planner: "Planner | None" = None, start: Deployment | None = None) -> Candidate | str:
        """The plan with the technique under a changed question, or on another machine; or what refuses it there."""
        start = start or self.start(request)
        return best_stack_with(planner or self.planner, self.chosen.techniques, start, self.kind, request)

    def without_technique(self, request: Request, planner: "Planner | None" = None, start: Deployment | None = None) -> Candidate | None:
        """The plan as it is under a changed question, or on another machine; `None` where one of its techniques refuses that."""
        stack = apply_on_paper(self.chosen.techniques, start or self.start(request), request)
        return (planner or self.planner).simulate(stack, request) if isinstance(stack, Stack) else None

    def start(self, request: Request) -> Deployment:
        """The unmodified model as the plan spreads it, with as many sequences as the question wants."""
        spread = self.chosen.deployment.parallel
        if request.workload == self.request.workload:
            return baseline_of(self.chosen.deployment)
        wanted = max_concurrent(request, spread)
        return baseline(self.planner.model, max_sequences=wanted, parallel=spread, engine=self.chosen.deployment.engine)

    def trial(
        self, request: Request, planner: "Planner | None" = None, start: Deployment | None = None
    ) -> tuple[Candidate, CounterfactualOutcome] | None:
        """The plan with the technique, and how it does beside the plan without; `None` where it is refused."""
        found = self.with_technique(request, planner, start)
        if isinstance(found, str):
            return None
        return found, outcome_of(planner or self.planner, found, self.without_technique(request, planner, start), request)

    def with_exchange(self, request: Request) -> tuple[str | None, str | None, Candidate] | None:
        """Where the technique is refused beside the others: what is taken out and what put in for it, and the plan that this makes."""
        found: dict[str, tuple[str | None, str | None, Candidate]] = {}
        for before, after, stack in self._partners(request):
            if len(found) == MOST_PARTNERS:
                break
            if (partner := after or before or "") not in found:
                found[partner] = (before, after, self.planner.simulate(stack, request))
        if not found:
            return None
        best = best_of([candidate for _, _, candidate in found.values()], request, self.planner.budget_gib(request))
        return next(told for told in found.values() if told[2] is best)

    def _partners(self, request: Request) -> Iterator[tuple[str | None, str | None, Stack]]:
        """Stacks with the technique in which one other slot of the plan holds something else, or nothing."""
        rest = tuple(other for other in self.chosen.techniques if other.slot is not self.kind.slot)
        for kind in TECHNIQUES:
            if kind.slot is self.kind.slot or kind.name in (*request.forbid, *self.chosen.names):
                continue
            replaced = next((other.name for other in rest if other.slot is kind.slot), None)
            others = tuple(other for other in rest if other.slot is not kind.slot)
            if (stack := self._folded((*others, kind()), request)) is not None:
                yield replaced, kind.name, stack
        for out in rest:
            if (stack := self._folded(tuple(other for other in rest if other is not out), request)) is not None:
                yield out.name, None, stack

    def _folded(self, others: tuple[Technique, ...], request: Request) -> Stack | None:
        stacks = (apply_on_paper((*others, technique), self.start(request), request) for technique in settings_of(self.kind, request))
        return next((stack for stack in stacks if isinstance(stack, Stack)), None)

    def replanned(self, request: Request) -> Candidate | None:
        """What the whole search chooses for a changed question, where that has the technique."""
        if not any(self.kind.name in stack.names for stack in finalists(self.planner, request)):
            return None
        again = choose(self.planner, request)
        return again if self.kind.name in again.names else None


def outcome_of(planner: "Planner", found: Candidate, alone: Candidate | None, request: Request) -> CounterfactualOutcome:
    """How a plan with the technique does beside the one without."""
    kept = {miss.limit for miss in alone.violations} if alone is not None else set()
    if any(miss.limit not in kept for miss in found.violations):
        return CounterfactualOutcome.MISSES
    if alone is None or best_of([alone, found], request, planner.budget_gib(request)) is found:
        return CounterfactualOutcome.AHEAD
    return CounterfactualOutcome.ALLOWED


def violates_quality(case: Scenario, found: Candidate) -> bool:
    """Whether quality is among what rules the technique out: no machine and no load gives it back."""
    return "quality_loss_pct" in new_violations(case, found)


def new_violations(case: Scenario, found: Candidate) -> dict[str, float]:
    """Limits that the plan keeps and the plan with the technique misses, each with what the limit would have to be."""
    missed = {miss.limit for miss in case.chosen.violations}
    return {miss.limit: miss.predicted.value for miss in found.violations if miss.limit not in missed}
