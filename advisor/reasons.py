"""Why each technique is in the plan or out of it, in numbers computed from before and after."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from advisor.advice import Candidate, Miss, Reason, State
from advisor.backends.deployment import Deployment, baseline
from advisor.backends.technique import Technique, explanation
from advisor.backends.techniques import TECHNIQUES
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request
from advisor.ranking import LIMITED, order
from advisor.search import refold

if TYPE_CHECKING:  # the planner asks for reasons and prices them
    from advisor.planner import Planner

COMPARED: tuple[tuple[str, str, str, int], ...] = (
    ("tpot_ms_mean", "TPOT", "ms", 1),
    ("ttft_ms_mean", "TTFT", "ms", 1),
    ("throughput_tok_s", "throughput", "tok/s", -1),
    ("peak_memory_gib", "memory", "GiB", 1),
    ("quality_loss_pct", "quality loss", "%", 1),
)
"""Metric, its name in a sentence, its unit, and 1 where less is better."""
NOTICEABLE = 0.01
"""Relative change below which a metric counts as unchanged."""


def reasons(planner: "Planner", chosen: Candidate, request: Request) -> Iterator[Reason]:
    """One reason for each technique, in catalogue order."""
    for kind in TECHNIQUES:
        in_plan = next((technique for technique in chosen.techniques if technique.name == kind.name), None)
        if in_plan is not None:
            yield _chosen(planner, chosen, in_plan, request)
        elif kind.name in request.forbid:
            yield Reason(kind.name, State.REJECTED, "Forbidden by the request.", sources=kind.sources)
        else:
            yield _left_out(planner, chosen, kind, request)


def _chosen(planner: "Planner", chosen: Candidate, technique: Technique, request: Request) -> Reason:
    rest = tuple(other for other in chosen.techniques if other is not technique)
    without = refold(rest, _start(chosen.deployment), request)
    if isinstance(without, str):
        return Reason(technique.name, State.CHOSEN, explanation(technique).does, sources=technique.sources)
    before = planner.candidate(without, request)
    deltas = effects(before.metrics, chosen.metrics)
    healed = [miss for miss in before.misses if miss.limit not in {left.limit for left in chosen.misses}]
    why = _changes(before.metrics, chosen.metrics) + "."
    if healed:
        why = f"{_healing(healed[0])}; {why}"
    elif technique.name in request.require:
        why = f"Required by the request; {why}"
    return Reason(technique.name, State.CHOSEN, why[0].upper() + why[1:], effect=deltas, sources=technique.sources)


def _healing(miss: Miss) -> str:
    side = "over" if LIMITED[miss.limit][1] else "under"
    return f"Without it {_label(_metric_of(miss.limit))} would be {figure(miss.predicted.value)}, {side} the limit {figure(miss.asked)}"


def _left_out(planner: "Planner", chosen: Candidate, kind: type[Technique], request: Request) -> Reason:
    refusals, best = [], None
    for technique in kind().variants():
        others = tuple(other for other in chosen.techniques if other.slot is not technique.slot)
        stack = refold((*others, technique), _start(chosen.deployment), request)
        if isinstance(stack, str):
            refusals.append(stack)
            continue
        candidate = planner.candidate(stack, request)
        best = candidate if best is None else order([candidate, best], request)[0]
    if best is None:
        return Reason(kind.name, State.NOT_APPLICABLE, refusals[0], sources=kind.sources)
    deltas = effects(chosen.metrics, best.metrics)
    new = [miss for miss in best.misses if miss.limit not in {miss.limit for miss in chosen.misses}]
    if new:
        miss = new[0]
        word = "over" if LIMITED[miss.limit][1] else "under"
        low, high = figure(miss.predicted.low), figure(miss.predicted.high)
        why = f"{_label(_metric_of(miss.limit))} {figure(miss.predicted.value)} [{low}, {high}] is {word} the limit {figure(miss.asked)}."
        return Reason(kind.name, State.REJECTED, why, ((miss.limit, miss.predicted.value),), deltas, kind.sources)
    replaced = next((other.name for other in chosen.techniques if other.slot is kind.slot), None)
    instead = f"Instead of {replaced}: " if replaced else "Added to the plan: "
    why = f"{instead}{_changes(chosen.metrics, best.metrics)}; ranks lower for {request.prefer.value}."
    return Reason(kind.name, State.REJECTED, why, _would_win(chosen.metrics, best.metrics), deltas, kind.sources)


def effects(before: Metrics, after: Metrics) -> tuple[tuple[str, float], ...]:
    """Absolute change of each compared metric that moved noticeably."""
    found = []
    for metric, *_ in COMPARED:
        old, new = getattr(before, metric), getattr(after, metric)
        if old is not None and new is not None and _moved(old.value, new.value):
            found.append((metric, new.value - old.value))
    return tuple(found)


def figure(value: float) -> str:
    """A number with three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _changes(before: Metrics, after: Metrics) -> str:
    parts = []
    for metric, name, unit, _ in COMPARED:
        old, new = getattr(before, metric), getattr(after, metric)
        if old is not None and new is not None and _moved(old.value, new.value):
            parts.append(f"{name} {figure(old.value)} -> {figure(new.value)} {unit}")
    return ", ".join(parts) or "no metric moves by 1 % or more"


def _moved(old: float, new: float) -> bool:
    return abs(new - old) > NOTICEABLE * max(abs(old), abs(new), 1e-9)


def _would_win(chosen: Metrics, other: Metrics) -> tuple[tuple[str, float], ...]:
    """Limits, tighter than what the plan reaches, under which only the other stack passes."""
    found = []
    for limit, (metric, upper) in LIMITED.items():
        mine, theirs = getattr(chosen, metric), getattr(other, metric)
        if mine is not None and theirs is not None and _moved(mine.value, theirs.value) and (theirs.value < mine.value) == upper:
            found.append((limit, theirs.value))
    return tuple(found)


def _metric_of(limit: str) -> str:
    metric = LIMITED[limit][0]
    return {"tpot_ms_p95": "tpot_ms_mean", "ttft_ms_p95": "ttft_ms_mean"}.get(metric, metric)


def _label(metric: str) -> str:
    return next(name for compared, name, *_ in COMPARED if compared == metric)


def _start(deployment: Deployment) -> Deployment:
    return baseline(
        deployment.model, max_sequences=deployment.batching.max_sequences, parallel=deployment.parallel, engine=deployment.engine
    )
