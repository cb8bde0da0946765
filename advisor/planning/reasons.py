"""Why each technique is in the plan or out of it, in numbers computed from before and after."""

from collections.abc import Iterator

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.technique import Technique, explanation
from advisor.backends.technique_names import settings_of
from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Candidate, Reason, TechniqueState, Violation
from advisor.planning.planner import Planner
from advisor.planning.search import apply_on_paper
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request
from advisor.quantities.formatting import number, scale
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import METRICS

EXPLAINED_METRICS = ("tpot_ms_mean", "ttft_ms_mean", "throughput_tok_s", "request_rate_per_s", "peak_memory_gib", "quality_loss_pct")
"""Metrics whose change a reason states."""
NOTICEABLE = 0.01
"""Relative change below which a metric counts as unchanged."""


def reasons(planner: Planner, chosen: Candidate, request: Request) -> Iterator[Reason]:
    """One reason for each technique, in catalogue order."""
    return (reason_for(planner, chosen, kind, request) for kind in TECHNIQUES)


def _chosen(planner: Planner, chosen: Candidate, technique: Technique, request: Request) -> Reason:
    rest = tuple(other for other in chosen.techniques if other is not technique)
    without = apply_on_paper(rest, baseline_of(chosen.deployment), request)
    if isinstance(without, str):
        why = f"{explanation(technique).does} The plan does not go without it: {without[0].lower()}{without[1:]}"
        return Reason(technique.name, TechniqueState.CHOSEN, why, sources=technique.sources)
    before = planner.candidate(without, request)
    deltas = effects(before.metrics, chosen.metrics)
    healed = [miss for miss in before.violations if miss.limit not in {left.limit for left in chosen.violations}]
    why = _changes(before.metrics, chosen.metrics) + "." + _measured_on(planner, technique, chosen.deployment, request)
    if healed:
        why = f"{_healing(healed[0])}; {why}"
    elif request.requires(technique.name):
        why = f"Required by the request; {why}"
    return Reason(technique.name, TechniqueState.CHOSEN, why[0].upper() + why[1:], effect=deltas, sources=technique.sources)


def _measured_on(planner: Planner, technique: Technique, deployment: Deployment, request: Request) -> str:
    """A sentence that says what text or task a published loss was measured on; empty for a technique that loses nothing."""
    tasks = technique.quality(deployment, planner.evidence, request).tasks
    return f" The quality loss is one of {', '.join(tasks)}." if tasks else ""


def _healing(miss: Violation) -> str:
    unit = METRIC_OF[miss.limit].unit
    predicted, asked = _figure(miss.predicted.value), _figure(miss.asked)
    return f"Without it {_name_of(miss.limit)} would be {predicted} {unit}, {_side(miss.limit)} the limit of {asked} {unit}"


def _left_out(planner: Planner, chosen: Candidate, kind: type[Technique], request: Request) -> Reason:
    best = best_stack_with(planner, chosen.techniques, baseline_of(chosen.deployment), kind, request)
    if isinstance(best, str):
        return Reason(kind.name, TechniqueState.NOT_APPLICABLE, best, sources=kind.sources)
    deltas = effects(chosen.metrics, best.metrics)
    new = [miss for miss in best.violations if miss.limit not in {miss.limit for miss in chosen.violations}]
    task = _measured_on(planner, kind(), best.deployment, request)
    if new:
        miss, unit = new[0], METRIC_OF[new[0].limit].unit
        predicted = f"{_figure(miss.predicted.value)} [{_figure(miss.predicted.low)}, {_figure(miss.predicted.high)}]"
        why = f"{_name_of(miss.limit)} {predicted} {unit} is {_side(miss.limit)} the limit of {_figure(miss.asked)} {unit}."
        why += task if miss.limit == "quality_loss_pct" else ""
        return Reason(kind.name, TechniqueState.REJECTED, why, ((miss.limit, miss.predicted.value),), deltas, kind.sources)
    replaced = next((other.name for other in chosen.techniques if other.slot is kind.slot), None)
    instead = f"Instead of {replaced}: " if replaced else "Added to the plan: "
    why = f"{instead}{_changes(chosen.metrics, best.metrics)}; ranks lower for {request.prefer.value}.{task}"
    return Reason(kind.name, TechniqueState.REJECTED, why, _would_win(chosen.metrics, best.metrics), deltas, kind.sources)


def best_stack_with(
    planner: Planner, techniques: tuple[Technique, ...], start: Deployment, kind: type[Technique], request: Request
) -> Candidate | str:
    """The best stack of these techniques with one of the kind in its slot; the sentence that refuses it where there is none."""
    refusals, found = [], []
    for technique in settings_of(kind, request):
        others = tuple(other for other in techniques if other.slot is not technique.slot)
        stack = apply_on_paper((*others, technique), start, request)
        if isinstance(stack, str):
            refusals.append(stack)
        else:
            found.append(planner.candidate(stack, request))
    return planner.best(found, request) if found else refusals[0]


def reason_for(planner: Planner, chosen: Candidate, kind: type[Technique], request: Request) -> Reason:
    """Why one technique is in the plan or out of it."""
    in_plan = next((technique for technique in chosen.techniques if technique.name == kind.name), None)
    if in_plan is not None:
        return _chosen(planner, chosen, in_plan, request)
    if kind.name in request.forbid:
        return Reason(kind.name, TechniqueState.REJECTED, "Forbidden by the request.", sources=kind.sources)
    return _left_out(planner, chosen, kind, request)


def effects(before: Metrics, after: Metrics) -> tuple[tuple[str, float], ...]:
    """Absolute change of each compared metric that moved noticeably."""
    found = []
    for metric in EXPLAINED_METRICS:
        old, new = getattr(before, metric), getattr(after, metric)
        if old is not None and new is not None and changed_noticeably(old.value, new.value):
            found.append((metric, new.value - old.value))
    return tuple(found)


def _changes(before: Metrics, after: Metrics) -> str:
    parts = []
    for metric in EXPLAINED_METRICS:
        old, new = getattr(before, metric), getattr(after, metric)
        if old is not None and new is not None and changed_noticeably(old.value, new.value):
            unit = scale(METRICS[metric].unit, (old.value, new.value))
            parts.append(f"{METRICS[metric].phrase} {_figure(old.value * unit.factor)} -> {_figure(new.value * unit.factor)} {unit.unit}")
    return ", ".join(parts) or "no metric moves by 1 % or more"


def changed_noticeably(old: float, new: float) -> bool:
    """Whether a change of a metric is worth a word."""
    return abs(new - old) > NOTICEABLE * max(abs(old), abs(new), 1e-9)


def _would_win(chosen: Metrics, other: Metrics) -> tuple[tuple[str, float], ...]:
    """Limits, tighter than what the plan reaches, under which only the other stack passes."""
    found = []
    for limit, shown in METRIC_OF.items():
        mine, theirs = getattr(chosen, shown.name), getattr(other, shown.name)
        if mine is None or theirs is None or not changed_noticeably(mine.value, theirs.value):
            continue
        if (theirs.value > mine.value) == shown.higher_is_better:
            found.append((limit, theirs.value))
    return tuple(found)


def _name_of(limit: str) -> str:
    return METRIC_OF[limit].phrase


def _side(limit: str) -> str:
    """Where a value that misses the limit lies."""
    return "under" if METRIC_OF[limit].higher_is_better else "over"


def _figure(value: float) -> str:
    return number(value, trim=True)


def baseline_of(deployment: Deployment) -> Deployment:
    """The unmodified model, spread and filled as this deployment is."""
    return baseline(
        deployment.model, max_sequences=deployment.batching.max_sequences, parallel=deployment.parallel, engine=deployment.engine
    )
