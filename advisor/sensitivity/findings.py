"""Marginal gains and counterfactuals of a plan, computed one by one: each prices or plans again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Advice, TechniqueState
from advisor.sensitivity.counterfactual import Change
from advisor.sensitivity.counterfactuals import counterfactuals
from advisor.sensitivity.marginal_gain import Gain, first_improving_step, marginal_gain, movable
from advisor.sensitivity.slack import limit_slacks

if TYPE_CHECKING:
    from advisor.planning.planner import Planner


@dataclass(frozen=True, slots=True)
class Finding:
    """A gain of a limit, or a change that admits a technique; `None` once its topic is complete."""

    topic: str
    """Name of a limit or of a technique."""
    result: Gain | Change | None


@dataclass(frozen=True, slots=True)
class Insights:
    """The findings so far."""

    gains: Mapping[str, tuple[Gain, ...]] = field(default_factory=dict)
    """By limit: the gain of its step, and where that changes nothing, of the first step that does."""
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    """By rejected technique: the changes that admit it."""
    complete: frozenset[str] = frozenset()
    """Topics without further findings."""

    def with_finding(self, finding: Finding) -> "Insights":
        """The insights with one more finding."""
        topic, result = finding.topic, finding.result
        if result is None:
            return replace(self, complete=self.complete | {topic})
        if isinstance(result, Gain):
            return replace(self, gains={**self.gains, topic: (*self.gains.get(topic, ()), result)})
        return replace(self, changes={**self.changes, topic: (*self.changes.get(topic, ()), result)})

    def without_incomplete(self, topics: Sequence[str]) -> "Insights":
        """The insights without the findings of those topics that are not complete, so that they can be computed again."""
        incomplete = {topic for topic in topics if topic not in self.complete}
        gains = {topic: results for topic, results in self.gains.items() if topic not in incomplete}
        return replace(self, gains=gains, changes={topic: results for topic, results in self.changes.items() if topic not in incomplete})


def topics(advice: Advice, budget_gib: float) -> tuple[str, ...]:
    """The topics of a plan: its limits, the binding one first, then the techniques that are not in it, those rejected by numbers first."""
    names = {kind.name for kind in TECHNIQUES}
    can_loosen = movable(advice.request)
    limits = [slack.limit for slack in limit_slacks(advice.chosen, advice.request, budget_gib) if slack.limit in can_loosen]
    techniques = [
        reason.technique
        for state in (TechniqueState.REJECTED, TechniqueState.NOT_APPLICABLE)
        for reason in advice.reasons
        if reason.state is state and reason.technique in names
    ]
    return (*limits, *techniques)


def findings(planner: "Planner", advice: Advice, wanted: Sequence[str]) -> Iterator[Finding]:
    """Generate the findings of each topic, in that order. Each `next` prices or plans again."""
    for topic in wanted:
        kind = next((kind for kind in TECHNIQUES if kind.name == topic), None)
        if kind is not None:
            yield from (Finding(topic, change) for change in counterfactuals(planner, advice.chosen, advice.request, kind))
        else:
            yield from (Finding(topic, gain) for gain in _gains(planner, advice, topic))
        yield Finding(topic, None)


def _gains(planner: "Planner", advice: Advice, limit: str) -> Iterator[Gain]:
    """The gain of the limit's step, and where that changes nothing, of the first step that does."""
    gain = marginal_gain(planner, advice.chosen, advice.request, limit)
    yield gain
    if gain.changes_nothing:
        first = first_improving_step(planner, advice.chosen, advice.request, limit)
        if first is not None:
            yield first
