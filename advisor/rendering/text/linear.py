"""An advice as plain sentences, for screen readers: a line each, no table, no drawing, no colour; the same facts as the ordinary view."""

import re
from collections.abc import Iterator

from advisor.backends.technique import Technique
from advisor.backends.techniques import options_of
from advisor.estimate.uncertainty.probability import probability_of_meeting
from advisor.planning.advice import Advice, Candidate, Status
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Value
from advisor.profiles.request import Limits
from advisor.quantities.formatting import percent, quantity
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.text.advice import SECTIONS, binding_words, budget_gib, facts, reason_words, relaxation_words, verdict
from advisor.rendering.text.memory import memory_parts
from advisor.rendering.text.metrics import limit_status
from advisor.rendering.text.plans import describe
from advisor.rendering.text.style import Look
from advisor.rendering.text.why import with_range

_STATUS = {Status.MEETS: "meets the limits", Status.AT_RISK: "meets the limits at risk", Status.INFEASIBLE: "misses a limit"}
_WORDS = {"ok": "ok", "risk": "risk: the range crosses the limit", "FAIL": "fail: the limit is missed"}
_SPOKEN = (
    (re.compile(r" (->|→) "), " to "),
    (re.compile(r" \+ "), " and "),
    (re.compile(r" \[([^],]+), ([^]]+)\]"), r", between \1 and \2"),
    (re.compile(r"\[([^]]+)\]"), r"\1"),
    (re.compile(r">(?=\d)"), "more than "),
    (re.compile(r"<(?=\d)"), "less than "),
    (re.compile("−"), "minus "),
    (re.compile("×"), "times"),
)
"""Signs that are read aloud as something else, or not at all, with what to say."""
_COMPARED = ("peak_memory_gib", "ttft_ms_p95", "tpot_ms_p95", "throughput_tok_s", "quality_loss_pct")


def linear_text(advice: Advice, *, ascii: bool = False) -> str:
    """Everything that the ordinary view says, in sentences, one on each line, in the same order."""
    return Look(ascii=ascii).finish(map(_spoken, _sentences(advice)))


def metric_sentence(shown: MetricInfo, value: Value, limits: Limits) -> str:
    """One metric: value, unit, range, limit, verdict word, probability and basis."""
    parts = [f"{shown.label}: {with_range(value, shown.unit)}"]
    limit = limits.on(shown.name)
    if limit is not None:
        chance = percent(probability_of_meeting(value, limit, higher_is_better=shown.higher_is_better))
        bound = f"{'at least' if shown.higher_is_better else 'at most'} {quantity(limit, shown.unit, trim=True)}"
        parts.append(f"limit {bound}, {_WORDS[limit_status(shown, value, limits)]}, kept with {chance} probability")
    return "; ".join((*parts, f"basis {value.basis.value}")) + "."


def _sentences(advice: Advice) -> Iterator[str]:
    chosen, limits = advice.chosen, advice.request.limits
    fits = chosen.status is not Status.INFEASIBLE
    yield f"{chosen.id[:1].upper()}{chosen.id[1:]}: {verdict(advice)}."
    yield from (f"{name.capitalize()}: {text}." for name, text in facts(advice).items())
    if not fits:
        yield from _ways_out(advice)
    yield f"{'Chosen' if fits else 'Nearest'} plan: {_stack(chosen)}."
    yield from (metric_sentence(METRICS[name], value, limits) for name, value in chosen.metrics.present().items())
    if advice.extrapolation_warning is not None:
        yield f"{advice.extrapolation_warning[0].upper()}{advice.extrapolation_warning[1:]}; the ranges are wider for it."
    yield from _memory(advice)
    yield f"{len(advice.ranked)} plans on the frontier, {advice.feasible} feasible of {advice.considered} considered."
    yield from (_alternative(place, candidate) for place, candidate in enumerate(advice.ranked, start=1))
    yield from _reasons(advice)


def _ways_out(advice: Advice) -> Iterator[str]:
    if advice.binding is not None:
        yield f"Binding limit: {binding_words(advice.binding)}."
    for relaxation in advice.relaxations:
        yield f"To get a plan, change {relaxation_words(relaxation)}."
    if not advice.relaxations:
        yield "No change of a single limit lets a plan in."


def _memory(advice: Advice) -> Iterator[str]:
    total, device_gib = advice.chosen.metrics.peak_memory_gib, advice.hardware.memory_bytes / GIB
    if total is None:
        yield "Memory per device: not known."
        return
    asked = budget_gib(advice)
    room = (device_gib if asked is None else asked) - total.value
    word = f"fits, {quantity(room, 'GiB')} free" if room >= 0 else f"over by {quantity(-room, 'GiB')}"
    crosses = ", but the range crosses the budget" if 0 <= room < total.high - total.value else ""
    of = f"device {quantity(device_gib, 'GiB')}" + ("" if asked is None else f", budget {quantity(asked, 'GiB', trim=True)}")
    yield f"Memory per device: {with_range(total, 'GiB')}, of {of}; {word}{crosses}."
    yield from (f"Of it, {part.label}: {quantity(part.gib, 'GiB')}." for part in memory_parts(advice.chosen.metrics) if part.gib > 0)


def _alternative(place: int, candidate: Candidate) -> str:
    known = ((METRICS[name], getattr(candidate.metrics, name)) for name in _COMPARED)
    figures = "; ".join(f"{shown.label} {with_range(value, shown.unit)}" for shown, value in known if value is not None)
    return (
        f"Number {place}, {candidate.id}, {_STATUS[candidate.status]}, all kept with {percent(candidate.probability)} probability: "
        f"{', '.join(map(_in_full, candidate.techniques)) or 'the unmodified model'}. {figures}."
    )


def _reasons(advice: Advice) -> Iterator[str]:
    for state, title in SECTIONS.items():
        found = [reason for reason in advice.reasons if reason.state is state]
        if found:
            yield f"{title}: {len(found)} techniques."
        for reason in found:
            sources = f" Source: {'; '.join(reason.sources)}." if reason.sources else ""
            yield f"{reason.technique}, {state.value}: {reason_words(reason)}{sources}"


def _stack(candidate: Candidate) -> str:
    return ", ".join(describe(technique) for technique in candidate.techniques) or "the unmodified model"


def _in_full(technique: Technique) -> str:
    """A technique's name with all its options: plans may differ by one alone."""
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options_of(technique).items())
    return technique.name + (f" ({options})" if options else "")


def _spoken(sentence: str) -> str:
    for sign, word in _SPOKEN:
        sentence = sign.sub(word, sentence)
    return sentence
