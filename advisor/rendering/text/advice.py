"""An advice as text: the plan with its metrics, its memory, the other plans, and the reasons for each technique."""

from advisor.planfile.summary import stated_quality_loss
from advisor.planning.advice import LIKELY, Advice, Candidate, Reason, Relaxation, Status, TechniqueState, Violation
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import weakest
from advisor.profiles.request import Limits, Workload
from advisor.quantities.formatting import enough, number, percent, quantity, value_text
from advisor.quantities.limits import MEMORY, METRIC_OF
from advisor.quantities.metrics import METRICS, utilisation
from advisor.rendering.text.memory import memory_bar
from advisor.rendering.text.metrics import limit_status, limit_words, metric_lines
from advisor.rendering.text.plans import describe, plan_lines
from advisor.rendering.text.run import workload_words
from advisor.rendering.text.style import Look, wrap

MARKS = {TechniqueState.CHOSEN: "✓", TechniqueState.REJECTED: "×", TechniqueState.NOT_APPLICABLE: "–"}
SECTIONS = {
    TechniqueState.CHOSEN: "Why",
    TechniqueState.REJECTED: "Rejected, and what would admit it",
    TechniqueState.NOT_APPLICABLE: "Not applicable here",
}
TONES = {TechniqueState.CHOSEN: "good", TechniqueState.REJECTED: "dim", TechniqueState.NOT_APPLICABLE: "dim"}


def advice_text(advice: Advice, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """The whole advice, top down: verdict, metrics, memory, alternatives, reasons."""
    look = Look(width, colour, ascii)
    chosen, limits = advice.chosen, advice.limits
    tone = {Status.MEETS: "good", Status.AT_RISK: "risk", Status.INFEASIBLE: "bad"}[chosen.status]
    lines = [look.paint(line, tone) for line in wrap(verdict(advice), look, first=f"{chosen.id}  ")]
    lines += [*_facts(advice, look), *_nothing_fits(advice, look)]
    lines += ["", *_title("Chosen plan" if chosen.status is not Status.INFEASIBLE else "Nearest plan", look)]
    lines += wrap(" + ".join(describe(technique) for technique in chosen.techniques) or "the unmodified model", look)
    lines += ["", *metric_lines(chosen.metrics, limits, look), *untested_range_lines(advice, look), ""]
    device_gib = advice.hardware.memory_bytes / GIB
    kv_format = chosen.deployment.kv.format
    lines += memory_bar(chosen.metrics, device_gib=device_gib, budget_gib=budget_gib(advice), look=look, kv_format=kv_format)
    count = f"Plans: {len(advice.ranked)} on the frontier, {advice.feasible} feasible of {advice.considered} considered"
    lines += ["", *_title(count, look), *plan_lines(advice.ranked, look), *reason_lines(advice, look)]
    return look.finish(lines)


def untested_range_lines(advice: Advice, look: Look) -> list[str]:
    """How the setting differs from all measurements that predictions were compared with; empty where it does not."""
    if advice.extrapolation_warning is None:
        return []
    sentence = f"{advice.extrapolation_warning[0].upper()}{advice.extrapolation_warning[1:]}; whether the ranges hold there is untested."
    return [look.paint(line, "risk") for line in wrap(sentence, look)]


def budget_gib(advice: Advice) -> float | None:
    """Memory budget per device, GiB: the limit that the plan misses, else the limit of the request, else `None`."""
    missed = (violation.bound for violation in advice.chosen.violations if violation.limit == "memory_gib_per_device")
    return next(missed, advice.limits.bound(MEMORY))


def verdict(advice: Advice) -> str:
    """The answer in one sentence."""
    if advice.chosen.status is Status.INFEASIBLE:
        missed = "meets all limits" if advice.request.limits.any_stated else "fits in memory"
        return f"NO PLAN {missed} ({advice.considered} tried); the nearest one is shown"
    return f"{_met(advice)}{stated_quality_loss(advice.chosen)}"


def _met(advice: Advice) -> str:
    limits = advice.limits
    limited = [
        (info, value, limit)
        for name, value in advice.chosen.metrics.present().items()
        if (limit := limits.on((info := METRICS[name]).name)) is not None
    ]
    chance = f"with {percent(advice.chosen.probability)} probability"
    if not limited:
        return f"no limits were set; fits in memory {chance}"
    risky = [info.label for info, value, _ in limited if limit_status(info, value, limits) == "risk"]
    if risky:
        risk = ", at RISK: the" if advice.chosen.status is Status.AT_RISK else "; the"
        return f"meets all limits {chance}{risk} range of {', '.join(risky)} crosses its limit"
    info, value, limit = max(limited, key=lambda item: utilisation(*item))
    tightest = f"{info.label}, {quantity(value.value, info.unit)} of {quantity(limit, info.unit, trim=True)}"
    return f"meets all limits {chance}; the tightest is {tightest}"


def _title(text: str, look: Look) -> list[str]:
    return [look.paint(line, "title") for line in wrap(text, look)]


def _facts(advice: Advice, look: Look) -> list[str]:
    return [line for name, text in facts(advice).items() for line in wrap(text, look, first=f"{name:<10}")]


def facts(advice: Advice) -> dict[str, str]:
    """Model, hardware, workload, limits, preference and basis, by name."""
    model, hardware, request = advice.model, advice.hardware, advice.request
    devices = f"{request.devices} × " if request.devices > 1 else ""
    power_limit = f", power limit {hardware.power_limit_w:g} of {hardware.tdp_w:g} W" if hardware.power_limit_w and hardware.tdp_w else ""
    return {
        "model": f"{model.id}, {model.family}, {quantity(model.parameters, 'count')} parameters, {model.weight_format}",
        **({"weights": "; ".join(warnings)} if (warnings := _weight_warnings(advice)) else {}),
        **({"towers": "; ".join(towers)} if (towers := load_engine(advice.chosen.deployment.engine).tower_words(model)) else {}),
        "hardware": f"{devices}{hardware.name}, {quantity(hardware.memory_bytes / GIB, 'GiB')}, "
        f"{quantity(hardware.memory_bandwidth_bytes_per_s, 'B/s')}{power_limit}",
        "workload": workload_words(request.workload) + _timed_lengths(request.workload),
        **({"layout": layout} if (layout := _layout(advice)) else {}),
        **({"computes": f"in {advice.arithmetic_reason}"} if advice.arithmetic_reason else {}),
        **({"kv cache": cache} if (cache := _cache(advice)) else {}),
        "limits": "; ".join(_limit(name, bound, advice) for name, bound in request.limits.model_dump(exclude_none=True).items()) or "none",
        "prefer": request.prefer.value,
        "basis": _basis(advice),
    }


def _weight_warnings(advice: Advice) -> tuple[str, ...]:
    """What may make the bytes of the weights wrong, and an engine that is not known to load their format."""
    model, engine = advice.model, load_engine(advice.chosen.deployment.engine)
    return (*model.warnings, *engine.weight_warnings(model.weight_format))


def _timed_lengths(workload: Workload) -> str:
    """Which lengths the times are for, where the longest sequence is another."""
    if workload.trace is not None or workload.longest_tokens <= workload.context_tokens:
        return ""
    return f"; times are for {workload.prompt_tokens} + {workload.output_tokens} tokens, not for the longest"


def _layout(advice: Advice) -> str:
    """How the model is spread over the devices, which of them have nothing to do, and whether they stand in several machines."""
    if advice.request.devices == 1:
        return ""
    return "; ".join((advice.chosen.deployment.parallel.words, *advice.warnings))


def _cache(advice: Advice) -> str:
    """What the paged cache is sized for, and from when on requests are preempted."""
    cache = advice.cache
    if cache is None:
        return ""
    requests = "1 request" if cache.sequences == 1 else f"{cache.sequences} requests"
    if cache.longest_at_once >= cache.sequences:
        return f"blocks for {requests} of {cache.tokens} tokens"
    return (
        f"blocks for {requests} of {cache.tokens} tokens, or {cache.longest_at_once} of {cache.longest_tokens}; "
        "when they run out, the newest request is preempted and computed again"
    )


def _limit(name: str, bound: float, advice: Advice) -> str:
    """A limit with its bound; where the device has less memory, what it has."""
    usable = advice.limits.bound(name)
    less = f" (the device has {quantity(usable, 'GiB')} usable)" if usable is not None and usable < bound else ""
    return limit_words(name, bound) + less


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
        lines += [
            look.paint(line, "bad") for line in wrap(binding_words(advice.binding, advice.request.limits), look, first="Binding limit  ")
        ]
    if not advice.relaxations:
        return [*lines, *wrap("No change of a single limit makes a plan feasible.", look)]
    lines += _title("To get a plan, change one of these:", look)
    for relaxation in advice.relaxations:
        lines += wrap(relaxation_words(relaxation, advice.request.limits), look, first="  ", rest="      ")
    return lines


def binding_words(violation: Violation, limits: Limits) -> str:
    """The limit that is missed by the largest factor, with both numbers; `limits` are those of the request."""
    info = METRIC_OF[violation.limit]
    side = "low" if info.higher_is_better else "high"
    return (
        f"{info.label} {value_text(violation.predicted, info.unit)}, "
        f"{'limit' if limits.states(violation.limit, violation.bound) else 'usable'} {quantity(violation.bound, info.unit, trim=True)}: "
        f"{number(violation.ratio)} times too {side}"
    )


_REQUEST_LABELS = {"context_tokens": "Context", "concurrency": "Concurrency", "devices": "Devices"}
"""Fields of the request that are whole numbers rather than limits."""


def relaxation_words(relaxation: Relaxation, limits: Limits) -> str:
    """The change of one limit, or of a device's memory where no lower limit on it was asked for, and the stack that it admits.

    `limits` are those of the request.
    """
    if relaxation.limit in _REQUEST_LABELS:
        return f"{_REQUEST_LABELS[relaxation.limit]} from {relaxation.bound:.0f} to {relaxation.needed:.0f}: {_stack(relaxation.candidate)}"
    info = METRIC_OF[relaxation.limit]
    needed = enough(relaxation.needed, info.unit, up=not info.higher_is_better)
    current = quantity(relaxation.bound, info.unit, trim=True)
    likely = enough(relaxation.likely, info.unit, up=not info.higher_is_better) if relaxation.likely is not None else needed
    sure = "" if likely == needed else f", or {likely} to meet it with {percent(LIKELY)} probability"
    changed = f"{info.label} limit" if limits.states(relaxation.limit, relaxation.bound) else "Usable memory of a device"
    return f"{changed} from {current} to {needed}{sure}: {_stack(relaxation.candidate)}"


def _stack(candidate: Candidate) -> str:
    return " + ".join(candidate.names) or "the unmodified model"


def reason_lines(advice: Advice, look: Look) -> list[str]:
    """Why each technique is in the plan or not, under a title for each state."""
    lines: list[str] = []
    if advice.layout_reason:
        layout = f"{advice.chosen.deployment.parallel.words}. {advice.layout_reason}"
        lines += ["", *_title("Layout", look), *wrap(layout[0].upper() + layout[1:], look)]
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
    """The reason for a technique's state, its effect where the reason has no number, and the limits that would admit it."""
    parts = [reason.why.rstrip().rstrip(".") + "."]
    # A reason with numbers states the effect already.
    if reason.effect and not any(character.isdigit() for character in reason.why):
        word = "It would change" if reason.state is TechniqueState.REJECTED else "It changes"
        parts.append(f"{word} {', '.join(_effect(name, change) for name, change in reason.effect)}.")
    if reason.would_need:
        parts.append(f"Admitted by {' or '.join(_need(name, bound) for name, bound in reason.would_need)}.")
    return " ".join(parts)


def _effect(name: str, change: float) -> str:
    info = METRICS.get(name)
    if info is None:
        return f"{name.replace('_', ' ')} {number(change, signed=True)}"
    return f"{info.label} by {quantity(change, info.unit, signed=True)}"


def _need(name: str, bound: float) -> str:
    info = METRIC_OF.get(name)
    if info is None:
        return f"{name.replace('_', ' ')} {number(bound, trim=True)}"
    word = "at least" if info.higher_is_better else "at most"
    return f"a limit of {word} {enough(bound, info.unit, up=not info.higher_is_better)} on {info.label}"
