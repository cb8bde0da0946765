"""An advice as text: the plan with its numbers, the memory, the other plans, why, and what would let in what was left out."""

from advisor.planning.advice import LIKELY, Advice, Candidate, Reason, Relaxation, Status, TechniqueState, Violation
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import weakest
from advisor.quantities.formatting import enough, number, percent, quantity, value_text
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import METRICS, utilisation
from advisor.rendering.text.memory import memory_bar
from advisor.rendering.text.metrics import limit_status, limit_words, metric_lines
from advisor.rendering.text.plans import describe, plan_lines
from advisor.rendering.text.run import workload_words
from advisor.rendering.text.style import Look, wrap

MARKS = {TechniqueState.CHOSEN: "✓", TechniqueState.REJECTED: "×", TechniqueState.NOT_APPLICABLE: "–"}
SECTIONS = {
    TechniqueState.CHOSEN: "Why",
    TechniqueState.REJECTED: "Left out, and what would let it in",
    TechniqueState.NOT_APPLICABLE: "Not applicable here",
}
TONES = {TechniqueState.CHOSEN: "good", TechniqueState.REJECTED: "dim", TechniqueState.NOT_APPLICABLE: "dim"}


def advice_text(advice: Advice, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Everything a person needs to judge a plan, top down: answer, numbers, memory, alternatives, reasons."""
    look = Look(width, colour, ascii)
    chosen, limits = advice.chosen, advice.request.limits
    tone = {Status.MEETS: "good", Status.AT_RISK: "risk", Status.INFEASIBLE: "bad"}[chosen.status]
    lines = [look.paint(line, tone) for line in wrap(verdict(advice), look, first=f"{chosen.id}  ")]
    lines += [*_facts(advice, look), *_nothing_fits(advice, look)]
    lines += ["", *_title("Chosen plan" if chosen.status is not Status.INFEASIBLE else "Nearest plan", look)]
    lines += wrap(" + ".join(describe(technique) for technique in chosen.techniques) or "the unmodified model", look)
    lines += ["", *metric_lines(chosen.metrics, limits, look), *extrapolation_lines(advice, look), ""]
    device_gib = advice.hardware.memory_bytes / GIB
    lines += memory_bar(chosen.metrics, device_gib=device_gib, budget_gib=budget_gib(advice), look=look)
    count = f"Plans: {len(advice.ranked)} on the frontier, {advice.feasible} feasible of {advice.considered} considered"
    lines += ["", *_title(count, look), *plan_lines(advice.ranked, look), *reason_lines(advice, look)]
    return look.finish(lines)


def extrapolation_lines(advice: Advice, look: Look) -> list[str]:
    """Why ranges are wider than usual; none where they are not."""
    if advice.extrapolation_warning is None:
        return []
    sentence = f"{advice.extrapolation_warning[0].upper()}{advice.extrapolation_warning[1:]}; the ranges are wider for it."
    return [look.paint(line, "risk") for line in wrap(sentence, look)]


def budget_gib(advice: Advice) -> float | None:
    """What may be used of a device: the limit that was asked, or the one that the plan was found to miss."""
    missed = (miss.bound for miss in advice.chosen.violations if miss.limit == "memory_gib_per_device")
    return next(missed, advice.request.limits.memory_gib_per_device)


def verdict(advice: Advice) -> str:
    """The answer in one sentence."""
    limits = advice.request.limits
    if advice.chosen.status is Status.INFEASIBLE:
        return f"NO PLAN meets all limits ({advice.considered} tried); the nearest one is shown"
    limited = [
        (shown, value, limit)
        for name, value in advice.chosen.metrics.present().items()
        if (limit := limits.on((shown := METRICS[name]).name)) is not None
    ]
    chance = f"with {percent(advice.chosen.probability)} probability"
    if not limited:
        return f"no limits were asked; fits in memory {chance}"
    risky = [shown.label for shown, value, _ in limited if limit_status(shown, value, limits) == "risk"]
    if risky:
        risk = ", at RISK: the" if advice.chosen.status is Status.AT_RISK else "; the"
        return f"meets all limits {chance}{risk} range of {', '.join(risky)} crosses its limit"
    shown, value, limit = max(limited, key=lambda item: utilisation(*item))
    tightest = f"{shown.label}, {quantity(value.value, shown.unit)} of {quantity(limit, shown.unit, trim=True)}"
    return f"meets all limits {chance}; the tightest is {tightest}"


def _title(text: str, look: Look) -> list[str]:
    return [look.paint(line, "title") for line in wrap(text, look)]


def _facts(advice: Advice, look: Look) -> list[str]:
    return [line for name, text in facts(advice).items() for line in wrap(text, look, first=f"{name:<10}")]


def facts(advice: Advice) -> dict[str, str]:
    """What the advice is for and rests on, by name."""
    model, hardware, request = advice.model, advice.hardware, advice.request
    devices = f"{request.devices} × " if request.devices > 1 else ""
    return {
        "model": f"{model.id}, {model.family}, {quantity(model.parameters, 'count')} parameters, {model.weight_format}",
        "hardware": f"{devices}{hardware.name}, {quantity(hardware.memory_bytes / GIB, 'GiB')}, "
        f"{quantity(hardware.memory_bandwidth_bytes_per_s, 'B/s')}",
        "workload": workload_words(request.workload),
        "limits": "; ".join(limit_words(name, bound) for name, bound in request.limits.model_dump(exclude_none=True).items()) or "none",
        "prefer": request.prefer.value,
        "basis": _basis(advice),
    }


def _basis(advice: Advice) -> str:
    bases = [value.basis for value in advice.chosen.metrics.present().values()]
    weak = f"; weakest basis of a number below: {weakest(*bases).value}" if bases else ""
    if advice.profile is None:
        return f"[DATASHEET] not measured on this hardware{weak}"
    return f"[PROFILED {advice.profile}]{weak}"


def _nothing_fits(advice: Advice, look: Look) -> list[str]:
    if advice.chosen.status is not Status.INFEASIBLE:
        return []
    lines = [""]
    if advice.binding:
        lines += [look.paint(line, "bad") for line in wrap(binding_words(advice.binding), look, first="Binding limit  ")]
    if not advice.relaxations:
        return [*lines, *wrap("No change of a single limit lets a plan in.", look)]
    lines += _title("To get a plan, change one of these:", look)
    for relaxation in advice.relaxations:
        lines += wrap(relaxation_words(relaxation), look, first="  ", rest="      ")
    return lines


def binding_words(miss: Violation) -> str:
    """The limit that is missed by most, with both numbers."""
    shown = METRIC_OF[miss.limit]
    off = "too little" if shown.higher_is_better else "too much"
    return (
        f"{shown.label} {value_text(miss.predicted, shown.unit)}, limit {quantity(miss.bound, shown.unit, trim=True)}: "
        f"{number(miss.ratio)} times {off}"
    )


_ASKED_FOR = {"context_tokens": "Context", "concurrency": "Requests at once", "devices": "Devices"}
"""What is asked for rather than limited: whole numbers, to be written as they are."""


def relaxation_words(relaxation: Relaxation) -> str:
    """The change of one limit, and the stack that it lets in."""
    if relaxation.limit in _ASKED_FOR:
        return f"{_ASKED_FOR[relaxation.limit]} from {relaxation.bound:.0f} to {relaxation.needed:.0f}: {_stack(relaxation.candidate)}"
    shown = METRIC_OF[relaxation.limit]
    needed = enough(relaxation.needed, shown.unit, up=not shown.higher_is_better)
    asked = quantity(relaxation.bound, shown.unit, trim=True)
    likely = enough(relaxation.likely, shown.unit, up=not shown.higher_is_better) if relaxation.likely is not None else needed
    sure = "" if likely == needed else f", or {likely} to keep it with {percent(LIKELY)}"
    return f"{shown.label} limit from {asked} to {needed}{sure}: {_stack(relaxation.candidate)}"


def _stack(candidate: Candidate) -> str:
    return " + ".join(candidate.names) or "the unmodified model"


def reason_lines(advice: Advice, look: Look) -> list[str]:
    """Why each technique is in the plan or out of it, under a title for each."""
    lines: list[str] = []
    for state, title in SECTIONS.items():
        reasons = [reason for reason in advice.reasons if reason.state is state]
        if reasons:
            lines += ["", *_title(title, look)]
        for reason in reasons:
            lines += _reason(reason, look)
    return lines


def _reason(reason: Reason, look: Look) -> list[str]:
    sources = f" [{'; '.join(reason.sources)}]" if reason.sources else ""
    lines = wrap(f"{reason.technique}: {reason_words(reason)}{sources}", look, first=f"{MARKS[reason.state]} ", rest="  ")
    return [look.paint(lines[0][:1], TONES[reason.state]) + lines[0][1:], *lines[1:]]


def reason_words(reason: Reason) -> str:
    """Why, what it changes where that is not said, and which limits would let it in."""
    parts = [reason.why.rstrip().rstrip(".") + "."]
    # A sentence that has its numbers needs no second one with the same.
    if reason.effect and not any(character.isdigit() for character in reason.why):
        word = "It would change" if reason.state is TechniqueState.REJECTED else "It changes"
        parts.append(f"{word} {', '.join(_effect(name, change) for name, change in reason.effect)}.")
    if reason.would_need:
        parts.append(f"Let in by {' or '.join(_need(name, bound) for name, bound in reason.would_need)}.")
    return " ".join(parts)


def _effect(name: str, change: float) -> str:
    shown = METRICS.get(name)
    if shown is None:
        return f"{name.replace('_', ' ')} {number(change, signed=True)}"
    return f"{shown.label} by {quantity(change, shown.unit, signed=True)}"


def _need(name: str, bound: float) -> str:
    shown = METRIC_OF.get(name)
    if shown is None:
        return f"{name.replace('_', ' ')} {number(bound, trim=True)}"
    word = "at least" if shown.higher_is_better else "at most"
    return f"a limit of {word} {enough(bound, shown.unit, up=not shown.higher_is_better)} on {shown.label}"
