"""The explanation of a plan in paragraphs: the binding limit, marginal gains, each technique and what would admit it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from advisor.planning.advice import Advice, Candidate, Reason, TechniqueState
from advisor.profiles.request import Limits
from advisor.quantities.limits import METRIC_OF
from advisor.rendering.text.advice import MARKS, SECTIONS, TONES, reason_words, untested_range_lines
from advisor.rendering.text.metrics import limit_lines
from advisor.rendering.text.plans import describe
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.why import NO_CHANGE_HELPS, change_words, gain_words, slack_words
from advisor.sensitivity.counterfactual import ChangeKind
from advisor.sensitivity.findings import Insights
from advisor.sensitivity.slack import LimitSlack

MOST_CHANGES = 3
"""Changes shown below a technique; its own page lists all."""
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together, and what they are about."""

    lines: tuple[str, ...]
    topic: str | None = None
    """The limit or technique that can be changed here; a cursor stops at these paragraphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPlan:
    """A plan with the explanations computed so far: slack of each limit (tightest first), marginal gains, counterfactuals."""

    advice: Advice
    slacks: Sequence[LimitSlack]
    insights: Insights
    pending_topic: str | None = None
    """The limit or technique that is being computed."""


def why_paragraphs(plan: ExplainedPlan, look: Look) -> Iterator[Paragraph]:
    """Top down: stack, binding limit, metrics, marginal gains, then every technique by state; narrower than `look` by a cursor's margin."""
    advice = plan.advice
    stack, numbers = plan_paragraphs(advice.chosen, advice.limits, look)
    yield stack
    if plan.slacks:
        yield Paragraph(("", *wrap(slack_words(plan.slacks[0]), look, first="Binding limit  ", rest="  ")))
    yield Paragraph((*numbers.lines, *untested_range_lines(advice, look)))
    narrower = replace(look, width=look.columns - _MARGIN)
    yield from _gains(plan, narrower)
    for state, title in SECTIONS.items():
        reasons = [reason for reason in advice.reasons if reason.state is state]
        if reasons:
            yield Paragraph(("", *(look.paint(line, "title") for line in wrap(title, look))))
        yield from (Paragraph(tuple(_reason(reason, plan, narrower)), reason.technique) for reason in reasons)


def plan_paragraphs(candidate: Candidate, limits: Limits, look: Look) -> tuple[Paragraph, Paragraph]:
    """A plan's stack, and its metrics against the limits."""
    name = " + ".join(describe(technique) for technique in candidate.techniques) or "the unmodified model"
    title = Paragraph(tuple(look.paint(line, "title") for line in wrap(name, look)))
    return title, Paragraph(("", *limit_lines(candidate.metrics, limits, look)))


def _gains(plan: ExplainedPlan, look: Look) -> Iterator[Paragraph]:
    """The marginal gain of each limit, as far as it is computed."""
    limits = [slack.limit for slack in plan.slacks if slack.limit in plan.insights.gains]
    if plan.pending_topic in METRIC_OF or limits:
        yield Paragraph(("", look.paint("Marginal gain of each limit", "title")))
    for limit in limits:
        lines = [line for gain in plan.insights.gains[limit] for line in wrap(gain_words(gain), look, first="- ", rest="  ")]
        yield Paragraph(tuple(lines), limit)
    if plan.pending_topic in METRIC_OF:
        yield Paragraph((f"  {look.paint(f'working out the marginal gain of {METRIC_OF[plan.pending_topic].label} ...', 'dim')}",))


def _reason(reason: Reason, plan: ExplainedPlan, look: Look) -> Iterator[str]:
    """Why a technique is in the plan or not, and below it the changes that would admit it, as far as they are computed."""
    changes, topic = plan.insights.changes.get(reason.technique, ()), reason.technique
    complete = bool(changes) or topic in plan.insights.complete
    sources = f" [{'; '.join(reason.sources)}]" if reason.sources else ""
    words = reason_words(replace(reason, would_need=()) if complete else reason)
    first, *rest = wrap(f"{topic}: {words}{sources}", look, first=f"{MARKS[reason.state]} ", rest="  ")
    yield look.paint(first[:1], TONES[reason.state]) + first[1:]
    yield from rest
    if reason.state is TechniqueState.CHOSEN:
        return
    shown = sorted(changes, key=lambda change: change.kind is ChangeKind.REQUIRE)[:MOST_CHANGES]
    for index, change in enumerate(shown):
        yield from wrap(change_words(change, flags=False), look, first="  Admitted by: " if index == 0 else "  Or by: ", rest="    ")
    if complete and not changes:
        yield from wrap(NO_CHANGE_HELPS, look, first="  ")
    if len(changes) > len(shown):
        yield f"  Enter shows {len(changes) - len(shown)} more."
    if topic == plan.pending_topic:
        yield f"  {look.paint('working out what would admit it ...', 'dim')}"
