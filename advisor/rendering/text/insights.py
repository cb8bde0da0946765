"""Why, in parts that a cursor can go to: the binding limit, what its next unit buys, each technique and what would let it in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from advisor.planning.advice import Advice, Candidate, Reason, TechniqueState
from advisor.profiles.request import Limits
from advisor.quantities.limits import METRIC_OF
from advisor.rendering.text.advice import MARKS, SECTIONS, TONES, extrapolation_lines, reason_words
from advisor.rendering.text.metrics import verdict_lines
from advisor.rendering.text.plans import describe
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.why import NO_CHANGE_HELPS, change_words, gain_words, slack_words
from advisor.sensitivity.counterfactual import ChangeKind
from advisor.sensitivity.findings import Insights
from advisor.sensitivity.slack import LimitSlack

MOST_CHANGES = 3
"""Told of a technique in passing; all of them where it is asked for."""
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together."""

    lines: tuple[str, ...]
    topic: str | None = None
    """The limit or the technique that it is about, where there is something to do about it; a cursor stops there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPlan:
    """What is known about a plan."""

    advice: Advice
    slacks: Sequence[LimitSlack]
    insights: Insights
    pending_topic: str | None = None
    """The topic about which more is being found out."""


def why_paragraphs(known: ExplainedPlan, look: Look) -> Iterator[Paragraph]:
    """Top down: the stack, what binds it, its numbers, what more of a limit buys, then every technique. Leaves a cursor's margin."""
    advice = known.advice
    stack, numbers = plan_paragraphs(advice.chosen, advice.request.limits, look)
    yield stack
    if known.slacks:
        yield Paragraph(("", *wrap(slack_words(known.slacks[0]), look, first="Binding limit  ", rest="  ")))
    yield Paragraph((*numbers.lines, *extrapolation_lines(advice, look)))
    narrower = replace(look, width=look.columns - _MARGIN)
    yield from _buys(known, narrower)
    for state, title in SECTIONS.items():
        reasons = [reason for reason in advice.reasons if reason.state is state]
        if reasons:
            yield Paragraph(("", *(look.paint(line, "title") for line in wrap(title, look))))
        yield from (Paragraph(tuple(_reason(reason, known, narrower)), reason.technique) for reason in reasons)


def plan_paragraphs(candidate: Candidate, limits: Limits, look: Look) -> tuple[Paragraph, Paragraph]:
    """A plan's stack, and its numbers against the limits."""
    name = " + ".join(describe(technique) for technique in candidate.techniques) or "the unmodified model"
    title = Paragraph(tuple(look.paint(line, "title") for line in wrap(name, look)))
    return title, Paragraph(("", *verdict_lines(candidate.metrics, limits, look)))


def _buys(known: ExplainedPlan, look: Look) -> Iterator[Paragraph]:
    """What more of each limit buys, as far as it is known."""
    limits = [standing.limit for standing in known.slacks if standing.limit in known.insights.gains]
    if known.pending_topic in METRIC_OF or limits:
        yield Paragraph(("", look.paint("What more would buy", "title")))
    for limit in limits:
        lines = [line for gain in known.insights.gains[limit] for line in wrap(gain_words(gain), look, first="- ", rest="  ")]
        yield Paragraph(tuple(lines), limit)
    if known.pending_topic in METRIC_OF:
        yield Paragraph((f"  {look.paint(f'working out what more of {METRIC_OF[known.pending_topic].label} buys ...', 'dim')}",))


def _reason(reason: Reason, known: ExplainedPlan, look: Look) -> Iterator[str]:
    """Why a technique is in or out, and below it what would let it in, as far as it is known."""
    changes, topic = known.insights.changes.get(reason.technique, ()), reason.technique
    told = bool(changes) or topic in known.insights.complete
    sources = f" [{'; '.join(reason.sources)}]" if reason.sources else ""
    words = reason_words(replace(reason, would_need=()) if told else reason)
    first, *rest = wrap(f"{topic}: {words}{sources}", look, first=f"{MARKS[reason.state]} ", rest="  ")
    yield look.paint(first[:1], TONES[reason.state]) + first[1:]
    yield from rest
    if reason.state is TechniqueState.CHOSEN:
        return
    shown = sorted(changes, key=lambda change: change.kind is ChangeKind.REQUIRE)[:MOST_CHANGES]
    for place, change in enumerate(shown):
        yield from wrap(change_words(change, flags=False), look, first="  Let in by: " if place == 0 else "  Or by: ", rest="    ")
    if told and not changes:
        yield from wrap(NO_CHANGE_HELPS, look, first="  ")
    if len(changes) > len(shown):
        yield f"  Enter shows {len(changes) - len(shown)} more."
    if topic == known.pending_topic:
        yield f"  {look.paint('working out what would let it in ...', 'dim')}"
