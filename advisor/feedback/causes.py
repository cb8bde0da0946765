"""The likely cause of the largest miss of a run, from the numbers of the run alone."""

import math
from dataclasses import dataclass

from advisor.feedback.compare import ComparedMetric, ComparedRung, Comparison, Contribution, RangeVerdict
from advisor.quantities.formatting import quantity, signed_percent, value_text
from advisor.quantities.metrics import METRICS

_SAME_ERROR = 0.5
"""The baseline shares an error if its own is at least this fraction of it, in logarithms of predicted over measured."""

_MAX_EXPONENT = 700.0
"""`exp` of more overflows a float."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The largest miss: the rung, the metric, both values in a sentence, and the evidence for its cause, a sentence each."""

    rung: str
    metric: str
    miss: str
    evidence: tuple[str, ...]


def likely_cause(comparison: Comparison) -> Cause | None:
    """Name the largest miss and the part or the technique that causes it; `None` where every value is within its predicted range."""
    largest = comparison.largest_miss
    if largest is None:
        return None
    rung, metric = largest
    assert metric.predicted is not None
    assert metric.measured is not None
    info = METRICS[metric.metric]
    predicted, measured = value_text(metric.predicted, info.unit), value_text(metric.measured, info.unit)
    miss = f"{info.label} of {rung.name}: predicted {predicted}, measured {measured}{_error_text(metric)}"
    evidence = (_noise(metric), _part(rung, metric), _acceptance(rung), _origin(comparison, rung, metric))
    return Cause(rung=rung.name, metric=metric.metric, miss=miss, evidence=tuple(text for text in evidence if text))


def _error_text(metric: ComparedMetric) -> str:
    return "" if metric.error is None else f", error {signed_percent(metric.error)} %"


def _noise(metric: ComparedMetric) -> str:
    assert metric.predicted is not None
    assert metric.measured is not None
    low, high = metric.measured.low, metric.measured.high
    if low < high and low <= metric.predicted.value <= high:
        return "the predicted value lies within the spread of the repeats: noise may explain all of the miss"
    return ""


def _part(rung: ComparedRung, metric: ComparedMetric) -> str:
    """Of a metric that is a sum or a quotient, the part with the largest error."""
    if metric.metric == "peak_memory_gib":
        return _memory_part(rung, metric)
    if metric.metric == "throughput_tok_s":
        parts = [part for name in ("ttft_ms_mean", "tpot_ms_mean") if (part := rung.metric(name)) and part.error is not None]
        if len(parts) < 2:
            return ""
        first, second = sorted(parts, key=lambda part: -abs(part.error or 0.0))
        return (
            f"of its parts, {METRICS[first.metric].label} has an error of {signed_percent(first.error or 0.0)} % "
            f"and {METRICS[second.metric].label} of {signed_percent(second.error or 0.0)} %"
        )
    return ""


def _memory_part(rung: ComparedRung, metric: ComparedMetric) -> str:
    misses: dict[str, float] = {}
    for name in ("weights_gib", "kv_cache_gib"):
        part = rung.metric(name)
        if part is None or part.predicted is None or part.measured is None:
            return ""
        misses[METRICS[name].label.lower()] = part.predicted.value - part.measured.value
    assert metric.predicted is not None
    assert metric.measured is not None
    total = metric.predicted.value - metric.measured.value
    misses["everything else (activations, libraries, runtime)"] = total - sum(misses.values())
    name, most = max(misses.items(), key=lambda item: abs(item[1]))
    return f"of an error of {quantity(total, 'GiB', signed=True)}, {quantity(most, 'GiB', signed=True)} is {name}"


def _acceptance(rung: ComparedRung) -> str:
    metric = rung.metric("acceptance")
    if metric is None or metric.verdict is not RangeVerdict.OUTSIDE or metric.predicted is None or metric.measured is None:
        return ""
    measured, predicted = quantity(metric.measured.value, "fraction"), value_text(metric.predicted, "fraction")
    return f"acceptance of proposed tokens was {measured}, predicted {predicted}"


def _origin(comparison: Comparison, rung: ComparedRung, metric: ComparedMetric) -> str:
    """The rung at which the error first appears: the baseline, or one technique."""
    errors = _errors_up_to(comparison, rung, metric.metric)
    if not errors:
        return ""
    (base_name, base), (_, here) = errors[0], errors[-1]
    if len(errors) == 1:
        return "this is the first rung with both values: the basic decoding step is mispredicted, not a technique"
    if base * here > 0 and abs(base) >= _SAME_ERROR * abs(here):
        percent = signed_percent(math.expm1(min(base, _MAX_EXPONENT)) * 100)
        return f"{base_name} has most of the same error ({percent} %): the basic decoding step is mispredicted, not a technique"
    jumps = [(name, error - errors[index][1]) for index, (name, error) in enumerate(errors[1:])]
    name, _ = max(jumps, key=lambda jump: jump[1] * math.copysign(1, here))
    own = (change for change in comparison.contributions if change.technique == name and change.metric == metric.metric)
    contribution = next(own, None)
    return f"it appears with {name}{_contribution_text(contribution)}"


def _errors_up_to(comparison: Comparison, last: ComparedRung, name: str) -> list[tuple[str, float]]:
    """The logarithm of predicted over measured at each rung up to `last` that has both values of the metric."""
    errors = []
    for rung in comparison.rungs[: comparison.rungs.index(last) + 1]:
        metric = rung.metric(name)
        if metric and metric.predicted and metric.measured and metric.predicted.value > 0 and metric.measured.value > 0:
            errors.append((rung.name, math.log(metric.predicted.value) - math.log(metric.measured.value)))
    return errors


def _contribution_text(contribution: Contribution | None) -> str:
    if contribution is None or contribution.predicted_pct is None or contribution.measured_pct is None:
        return ""
    predicted, measured = signed_percent(contribution.predicted_pct), signed_percent(contribution.measured_pct)
    return f": its change from {contribution.previous} was predicted as {predicted} % and measured as {measured} %"
