"""Sentences of a plan file: its verdict, the limits that it violates, and how alternatives differ."""

import dataclasses
from collections.abc import Iterable

from advisor.backends.deployment import Deployment
from advisor.planfile import sections
from advisor.planning.advice import Advice, Candidate, Violation
from advisor.profiles.request import Limits
from advisor.quantities.formatting import number, on_the_safe_side, percent, value_text
from advisor.quantities.limits import LIMITS, METRIC_OF
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies, utilisation, worse_end

STATED_LOSS_PCT = 1.0
"""Quality loss, percent of perplexity, above which every verdict names it."""
_FILE_KEYS = {limit.name: limit.file_key for limit in LIMITS.values()} | {limit.metric.name: limit.file_key for limit in LIMITS.values()}


def file_name(name: str) -> str:
    """The key of a metric or a limit in a plan file: a metric with a limit has the limit's."""
    return _FILE_KEYS.get(name, name)


def round_enough(limit: str, needed: float) -> float:
    """A bound in three digits that the plan still meets: rounded up for a maximum, down for a minimum."""
    if limit not in LIMITS:  # a number of tokens or of requests is whole as it is
        return needed
    return on_the_safe_side(needed, up=not METRIC_OF[limit].higher_is_better)


def stated_quality_loss(candidate: Candidate) -> str:
    """The quality loss as the end of a sentence, where it is above `STATED_LOSS_PCT`; else empty."""
    loss = candidate.metrics.quality_loss_pct
    return f"; quality loss {value_text(loss, '%')}" if loss is not None and loss.value > STATED_LOSS_PCT else ""


def summary(advice: Advice) -> str:
    """One sentence on the chosen candidate: its worst violation, or the limit with the highest utilisation, and a loss of quality."""
    return f"{_met(advice)}{stated_quality_loss(advice.chosen)}."


def _met(advice: Advice) -> str:
    bounded = bounded_metrics(advice.limits)
    if advice.binding:
        return f"No plan meets all limits; the nearest misses {violation_text(advice.binding)}"
    limited = [(metric, value, limit) for metric, limit in bounded if (value := getattr(advice.chosen.metrics, metric.name)) is not None]
    chance = f"with {percent(advice.chosen.probability)} probability"
    if not limited:
        return f"No limits were set; the best by preference {advice.request.prefer.value}; fits in memory {chance}"
    metric, value, limit = max(limited, key=lambda item: utilisation(*item))
    tight = f"the tightest is {file_name(metric.name)}, {number(value.value)} of {number(limit, trim=True)} {metric.unit}"
    risk = " and its range crosses the limit" if not satisfies(metric, worse_end(metric, value), limit) else ""
    return f"Meets all limits {chance}; {tight}{risk}"


def bounded_metrics(limits: Limits) -> list[tuple[MetricInfo, float]]:
    """The metrics with a limit, and the limit."""
    return [(metric, limit) for metric in METRICS.values() if (limit := limits.on(metric.name)) is not None]


def violation_text(violation: Violation) -> str:
    """A violation with its numbers, as in `tpot_ms_p95: 21 [19, 24] ms, limit 15`."""
    metric = METRIC_OF[violation.limit]
    predicted = f"{number(violation.predicted.value)} [{number(violation.predicted.low)}, {number(violation.predicted.high)}]"
    return f"{file_name(violation.limit)}: {predicted} {metric.unit}, limit {number(violation.bound, trim=True)}"


def alternative(id: str, other: Candidate, advice: Advice) -> sections.PlanAlternative:
    """Another candidate compared with the chosen one: what differs, the largest gain and the largest cost."""
    changes = [
        (metric, before.value, after.value)
        for metric in METRICS.values()
        if (before := getattr(advice.chosen.metrics, metric.name)) and (after := getattr(other.metrics, metric.name))
    ]
    gains = [change for change in changes if _gain(change) > 0.005]
    losses = [change for change in changes if _gain(change) < -0.005]
    return sections.PlanAlternative(
        id=id,
        change=_difference(advice.chosen, other),
        gives=_change_text(max(gains, key=_gain)) if gains else None,
        costs=_change_text(min(losses, key=_gain)) + (": misses" if other.violations else "") if losses else None,
    )


def _gain(change: tuple[MetricInfo, float, float]) -> float:
    """Relative improvement; the difference over 100 for metrics whose values near zero make a ratio meaningless."""
    metric, before, after = change
    step = (after - before) / (abs(before) if metric.relative_error and before else 100)
    return step if metric.higher_is_better else -step


def _change_text(change: tuple[MetricInfo, float, float]) -> str:
    metric, before, after = change
    return f"{file_name(metric.name)} {number(after)}, was {number(before)}"


def _difference(chosen: Candidate, other: Candidate) -> str:
    """Techniques added and removed; where they are the same, the settings that differ."""
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
