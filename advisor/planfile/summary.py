"""What a plan file says in words: its verdict, the limits it misses, and how the alternatives differ."""

import dataclasses
from collections.abc import Iterable

from advisor.backends.deployment import Deployment
from advisor.planfile import sections
from advisor.planning.advice import Advice, Candidate, Violation
from advisor.profiles.request import Limits
from advisor.quantities.formatting import number, on_the_safe_side, percent
from advisor.quantities.limits import LIMITS, METRIC_OF
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies, utilisation, worse_end

_FILE_KEYS = {limit.name: limit.file_key for limit in LIMITS.values()} | {limit.metric.name: limit.file_key for limit in LIMITS.values()}


def file_name(name: str) -> str:
    """The key of a metric or a limit in a plan file: a metric with a limit has the limit's."""
    return _FILE_KEYS.get(name, name)


def round_enough(limit: str, needed: float) -> float:
    """A bound in three digits that still lets the plan in: rounded up for a maximum, down for a minimum."""
    if limit not in LIMITS:  # a number of tokens or of requests is whole as it is
        return needed
    return on_the_safe_side(needed, up=not METRIC_OF[limit].higher_is_better)


def summary(advice: Advice) -> str:
    """One sentence on how the chosen candidate stands: the limit it misses by most, or the tightest one it keeps."""
    asked = bounded_metrics(advice.request.limits)
    if advice.binding:
        return f"No plan meets all limits; the nearest misses {violation_text(advice.binding)}."
    judged = [(shown, value, limit) for shown, limit in asked if (value := getattr(advice.chosen.metrics, shown.name)) is not None]
    chance = f"with {percent(advice.chosen.probability)} probability"
    if not judged:
        return f"No limits were set; the best by preference {advice.request.prefer.value}; fits in memory {chance}."
    shown, value, limit = max(judged, key=lambda item: utilisation(*item))
    tight = f"the tightest is {file_name(shown.name)}, {number(value.value)} of {number(limit, trim=True)} {shown.unit}"
    risk = " and its range crosses the limit" if not satisfies(shown, worse_end(shown, value), limit) else ""
    return f"Meets all limits {chance}; {tight}{risk}."


def bounded_metrics(limits: Limits) -> list[tuple[MetricInfo, float]]:
    """The metrics that a limit was asked for, with the limit."""
    return [(shown, limit) for shown in METRICS.values() if (limit := limits.on(shown.name)) is not None]


def violation_text(miss: Violation) -> str:
    """A missed limit with its numbers, as in `tpot_ms_p95: 21 [19, 24] ms, limit 15`."""
    shown = METRIC_OF[miss.limit]
    predicted = f"{number(miss.predicted.value)} [{number(miss.predicted.low)}, {number(miss.predicted.high)}]"
    return f"{file_name(miss.limit)}: {predicted} {shown.unit}, limit {number(miss.bound, trim=True)}"


def alternative(id: str, other: Candidate, advice: Advice) -> sections.PlanAlternative:
    """Another candidate beside the chosen one: what differs, the best gain and the worst cost."""
    changes = [
        (shown, before.value, after.value)
        for shown in METRICS.values()
        if (before := getattr(advice.chosen.metrics, shown.name)) and (after := getattr(other.metrics, shown.name))
    ]
    gains = [change for change in changes if _gain(change) > 0.005]
    losses = [change for change in changes if _gain(change) < -0.005]
    return sections.PlanAlternative(
        id=id,
        change=_difference(advice.chosen, other),
        gives=_told(max(gains, key=_gain)) if gains else None,
        costs=_told(min(losses, key=_gain)) + (": misses" if other.violations else "") if losses else None,
    )


def _gain(change: tuple[MetricInfo, float, float]) -> float:
    """Relative improvement; plain difference for metrics near zero, where a percentage says nothing."""
    shown, before, after = change
    step = (after - before) / (abs(before) if shown.relative_error and before else 100)
    return step if shown.higher_is_better else -step


def _told(change: tuple[MetricInfo, float, float]) -> str:
    shown, before, after = change
    return f"{file_name(shown.name)} {number(after)}, was {number(before)}"


def _difference(chosen: Candidate, other: Candidate) -> str:
    """What to add and what to leave out; where the techniques are the same, which setting differs."""
    added = [f"+{name}" for name in other.names if name not in chosen.names]
    left = [f"-{name}" for name in chosen.names if name not in other.names]
    return ", ".join((*added, *left)) or ", ".join(_settings(chosen.deployment, other.deployment)) or "same techniques, other options"


def _settings(chosen: Deployment, other: Deployment) -> Iterable[str]:
    for slot in ("weights", "attention", "kv", "decoding", "batching", "parallel"):
        before, after = getattr(chosen, slot), getattr(other, slot)
        for field in dataclasses.fields(before):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old != new and isinstance(new, int | str):
                yield f"{slot}.{field.name} {new}, was {old}"
