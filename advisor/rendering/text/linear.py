"""An advice as plain sentences for screen readers, one a line: the facts of `advice_text` without tables, drawings or colour."""

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
from advisor.quantities.limits import COLUMNS
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.text.advice import SECTIONS, binding_words, budget_gib, facts, reason_words, relaxation_words, verdict
from advisor.rendering.text.memory import capacity_words, fit_words, memory_parts
from advisor.rendering.text.metrics import bound_words, limit_status
from advisor.rendering.text.plans import describe
from advisor.rendering.text.style import Look
from advisor.rendering.text.why import with_range

_STATUS = {Status.MEETS: "meets the limits", Status.AT_RISK: "meets the limits at risk", Status.INFEASIBLE: "misses a limit"}
_STATUS_WORDS = {"ok": "ok", "risk": "risk: the range crosses the limit", "FAIL": "fail: the limit is missed"}
_SPOKEN_SIGNS = (
    (re.compile(r" (->|→) "), " to "),
    (re.compile(r" \+ "), " and "),
    (re.compile(r" \[([^],]+), ([^]]+)\]"), r", between \1 and \2"),
    (re.compile(r"\[([^]]+)\]"), r"\1"),
    (re.compile(r">(?=\d)"), "more than "),
    (re.compile(r"<(?=\d)"), "less than "),
    (re.compile("−"), "minus "),
    (re.compile("×"), "times"),
)
"""Signs that screen readers misread or skip, and the words for them."""
_ALTERNATIVE_METRICS = tuple(metric.name for _, metric in COLUMNS)


def linear_text(advice: Advice, *, ascii: bool = False) -> str:
    """The facts of `advice_text` in sentences, one on each line, in the same order."""
    return Look(ascii=ascii).finish(map(_spoken, _sentences(advice)))


def metric_sentence(info: MetricInfo, value: Value, limits: Limits) -> str:
    """One metric: value, unit, range, limit, status, probability and basis."""
    parts = [f"{info.label}: {with_range(value, info.unit)}"]
    limit = limits.on(info.name)
    if limit is not None:
        chance = percent(probability_of_meeting(value, limit, higher_is_better=info.higher_is_better))
        status = _STATUS_WORDS[limit_status(info, value, limits)]
        parts.append(f"limit {bound_words(info, limit)}, {status}, met with {chance} probability")
    return "; ".join((*parts, f"basis {value.basis.value}")) + "."


def _sentences(advice: Advice) -> Iterator[str]:
    chosen, limits = advice.chosen, advice.limits
    fits = chosen.status is not Status.INFEASIBLE
    yield f"{chosen.id}: {verdict(advice)}."
    yield from (f"{name.capitalize()}: {text}." for name, text in facts(advice).items())
    if not fits:
        yield from _relaxations(advice)
    yield f"{'Chosen' if fits else 'Nearest'} plan: {_stack(chosen)}."
    yield from (metric_sentence(METRICS[name], value, limits) for name, value in chosen.metrics.present().items())
    if advice.extrapolation_warning is not None:
        yield f"{advice.extrapolation_warning[0].upper()}{advice.extrapolation_warning[1:]}; whether the ranges hold there is untested."
    yield from _memory(advice)
    yield f"{len(advice.ranked)} plans on the frontier, {advice.feasible} feasible of {advice.considered} considered."
    yield from (_alternative(rank, candidate) for rank, candidate in enumerate(advice.ranked, start=1))
    yield from _reasons(advice)


def _relaxations(advice: Advice) -> Iterator[str]:
    if advice.binding is not None:
        yield f"Binding limit: {binding_words(advice.binding, advice.request.limits)}."
    for relaxation in advice.relaxations:
        yield f"To get a plan, change {relaxation_words(relaxation, advice.request.limits)}."
    if not advice.relaxations:
        yield "No change of a single limit makes a plan feasible."


def _memory(advice: Advice) -> Iterator[str]:
    total, device_gib = advice.chosen.metrics.peak_memory_gib, advice.hardware.memory_bytes / GIB
    if total is None:
        yield "Memory per device: not known."
        return
    budget = budget_gib(advice)
    fit = fit_words(total, device_gib if budget is None else budget)
    yield f"Memory per device: {with_range(total, 'GiB')}, of {capacity_words(device_gib, budget)}; {fit}."
    parts = memory_parts(advice.chosen.metrics, advice.chosen.deployment.kv.format)
    yield from (f"Of it, {part.label}: {quantity(part.gib, 'GiB')}." for part in parts if part.gib > 0)


def _alternative(rank: int, candidate: Candidate) -> str:
    values = ((METRICS[name], getattr(candidate.metrics, name)) for name in _ALTERNATIVE_METRICS)
    figures = "; ".join(f"{info.label} {with_range(value, info.unit)}" for info, value in values if value is not None)
    return (
        f"Number {rank}, {candidate.id}, {_STATUS[candidate.status]}, all limits met with {percent(candidate.probability)} probability: "
        f"{', '.join(map(_in_full, candidate.techniques)) or 'the unmodified model'}. {figures}."
    )


def _reasons(advice: Advice) -> Iterator[str]:
    if advice.layout_reason:
        yield f"Layout: {advice.chosen.deployment.parallel.words}. {advice.layout_reason}"
    for state, title in SECTIONS.items():
        reasons = [reason for reason in advice.reasons if reason.state is state]
        if reasons:
            yield f"{title}: {len(reasons)} technique{'' if len(reasons) == 1 else 's'}."
        for reason in reasons:
            sources = f" Source: {'; '.join(reason.sources)}." if reason.sources else ""
            yield f"{reason.technique}, {state.value}: {reason_words(reason)}{sources}"


def _stack(candidate: Candidate) -> str:
    return ", ".join(describe(technique) for technique in candidate.techniques) or "the unmodified model"


def _in_full(technique: Technique) -> str:
    """A technique's name with all its options, as plans may differ in one option only."""
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options_of(technique).items())
    return technique.name + (f" ({options})" if options else "")


def _spoken(sentence: str) -> str:
    for sign, word in _SPOKEN_SIGNS:
        sentence = sign.sub(word, sentence)
    return sentence
