"""What is worked out about a plan bit by bit, while its reasons are read: each bit prices or plans again."""

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
    """One bit: a gain of a limit, or a change that lets a technique in; `None` where all of the topic is told."""

    topic: str
    """A limit, by field name of `Limits`, or a technique, by name."""
    result: Gain | Change | None


@dataclass(frozen=True, slots=True)
class Insights:
    """All bits so far."""

    gains: Mapping[str, tuple[Gain, ...]] = field(default_factory=dict)
    """By limit: its next unit, and where that buys nothing the first step that buys something."""
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    """By technique that is left out: what would let it in."""
    complete: frozenset[str] = frozenset()
    """Topics of which all is told."""

    def with_finding(self, finding: Finding) -> "Insights":
        """The same with one bit more."""
        topic, found = finding.topic, finding.result
        if found is None:
            return replace(self, complete=self.complete | {topic})
        if isinstance(found, Gain):
            return replace(self, gains={**self.gains, topic: (*self.gains.get(topic, ()), found)})
        return replace(self, changes={**self.changes, topic: (*self.changes.get(topic, ()), found)})

    def without_incomplete(self, topics: Sequence[str]) -> "Insights":
        """The same without what is known of topics of which not all is told, so that they can be asked again."""
        begun = {topic for topic in topics if topic not in self.complete}
        gains = {topic: found for topic, found in self.gains.items() if topic not in begun}
        return replace(self, gains=gains, changes={topic: found for topic, found in self.changes.items() if topic not in begun})


def topics(advice: Advice, budget_gib: float) -> tuple[str, ...]:
    """What can be asked of a plan: its limits, the binding one first, then techniques left out, those ruled out by numbers first."""
    names = {kind.name for kind in TECHNIQUES}
    can_move = movable(advice.request)
    nearest = [standing.limit for standing in limit_slacks(advice.chosen, advice.request, budget_gib) if standing.limit in can_move]
    left_out = [
        reason.technique
        for state in (TechniqueState.REJECTED, TechniqueState.NOT_APPLICABLE)
        for reason in advice.reasons
        if reason.state is state and reason.technique in names
    ]
    return (*nearest, *left_out)


def findings(planner: "Planner", advice: Advice, wanted: Sequence[str]) -> Iterator[Finding]:
    """What is found out about each topic, in that order. Each `next` prices or plans again."""
    for topic in wanted:
        kind = next((kind for kind in TECHNIQUES if kind.name == topic), None)
        if kind is not None:
            yield from (Finding(topic, change) for change in counterfactuals(planner, advice.chosen, advice.request, kind))
        else:
            yield from (Finding(topic, gain) for gain in _gains(planner, advice, topic))
        yield Finding(topic, None)


def _gains(planner: "Planner", advice: Advice, limit: str) -> Iterator[Gain]:
    """The next unit, and the first step that buys something where that buys nothing."""
    gain = marginal_gain(planner, advice.chosen, advice.request, limit)
    yield gain
    if gain.changes_nothing:
        first = first_improving_step(planner, advice.chosen, advice.request, limit)
        if first is not None:
            yield first
