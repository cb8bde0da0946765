"""Where the largest miss of a run comes from, as far as the run's own numbers say."""

import math
from dataclasses import dataclass

from advisor.feedback.compare import ComparedMetric, ComparedRung, Comparison, Contribution, RangeVerdict
from advisor.quantities.formatting import one_digit, quantity, value_text
from advisor.quantities.metrics import METRICS

_SAME_ERROR = 0.5
"""An error counts as there from the start when the baseline shows this share of it, in the logarithm of the ratio."""

_MOST = 700.0
"""Beyond this, the exponential of a logarithm leaves the range of a float."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The largest miss, and what the other numbers say about it."""

    rung: str
    metric: str
    miss: str
    evidence: tuple[str, ...]


def likely_cause(comparison: Comparison) -> Cause | None:
    """Name the largest miss and the part or the technique it comes from; `None` when every value is within its range."""
    found = comparison.largest_miss
    if found is None:
        return None
    step, line = found
    assert line.predicted is not None
    assert line.measured is not None
    shown = METRICS[line.metric]
    predicted, measured = value_text(line.predicted, shown.unit), value_text(line.measured, shown.unit)
    miss = f"{shown.label} of {step.name}: predicted {predicted}, measured {measured}{_off(line)}"
    evidence = (_noise(line), _part(step, line), _acceptance(step), _origin(comparison, step, line))
    return Cause(rung=step.name, metric=line.metric, miss=miss, evidence=tuple(text for text in evidence if text))


def _off(line: ComparedMetric) -> str:
    return "" if line.error is None else f", error {one_digit(line.error)} %"


def _noise(line: ComparedMetric) -> str:
    assert line.predicted is not None
    assert line.measured is not None
    low, high = line.measured.low, line.measured.high
    if low < high and low <= line.predicted.value <= high:
        return "the measured range holds the predicted value: the spread of the repeats may be all of it"
    return ""


def _part(step: ComparedRung, line: ComparedMetric) -> str:
    """For a sum, the part that is off by most."""
    if line.metric == "peak_memory_gib":
        return _memory_part(step, line)
    if line.metric == "throughput_tok_s":
        parts = [part for name in ("ttft_ms_mean", "tpot_ms_mean") if (part := step.metric(name)) and part.error is not None]
        if len(parts) < 2:
            return ""
        first, second = sorted(parts, key=lambda part: -abs(part.error or 0.0))
        return (
            f"of its parts, {METRICS[first.metric].label} is off by {one_digit(first.error or 0.0)} % "
            f"and {METRICS[second.metric].label} by {one_digit(second.error or 0.0)} %"
        )
    return ""


def _memory_part(step: ComparedRung, line: ComparedMetric) -> str:
    misses: dict[str, float] = {}
    for name in ("weights_gib", "kv_cache_gib"):
        part = step.metric(name)
        if part is None or part.predicted is None or part.measured is None:
            return ""
        misses[METRICS[name].label.lower()] = part.predicted.value - part.measured.value
    assert line.predicted is not None
    assert line.measured is not None
    total = line.predicted.value - line.measured.value
    misses["everything else (activations, libraries, runtime)"] = total - sum(misses.values())
    name, most = max(misses.items(), key=lambda item: abs(item[1]))
    return f"of {quantity(total, 'GiB', signed=True)} in all, {quantity(most, 'GiB', signed=True)} is {name}"


def _acceptance(step: ComparedRung) -> str:
    line = step.metric("acceptance")
    if line is None or line.verdict is not RangeVerdict.OUTSIDE or line.predicted is None or line.measured is None:
        return ""
    return (
        f"acceptance of proposed tokens was {quantity(line.measured.value, 'fraction')}, predicted {value_text(line.predicted, 'fraction')}"
    )


def _origin(comparison: Comparison, step: ComparedRung, line: ComparedMetric) -> str:
    """Where along the ladder the error comes in: at the baseline, or with one technique."""
    errors = _errors_up_to(comparison, step, line.metric)
    if not errors:
        return ""
    (base_name, base), (_, here) = errors[0], errors[-1]
    if len(errors) == 1:
        return "this is the first rung with both numbers: the cost of a plain step is off, not a technique"
    if base * here > 0 and abs(base) >= _SAME_ERROR * abs(here):
        percent = one_digit(math.expm1(min(base, _MOST)) * 100)
        return f"{base_name} is off the same way ({percent} %): most of it is the cost of a plain step, not a technique"
    jumps = [(name, error - errors[index][1]) for index, (name, error) in enumerate(errors[1:])]
    name, _ = max(jumps, key=lambda jump: jump[1] * math.copysign(1, here))
    share = next((share for share in comparison.contributions if share.technique == name and share.metric == line.metric), None)
    return f"it comes in with {name}{_credited(share)}"


def _errors_up_to(comparison: Comparison, step: ComparedRung, metric: str) -> list[tuple[str, float]]:
    """The logarithm of predicted over measured at each rung up to `step` that has both."""
    errors = []
    for rung in comparison.rungs[: comparison.rungs.index(step) + 1]:
        line = rung.metric(metric)
        if line and line.predicted and line.measured and line.predicted.value > 0 and line.measured.value > 0:
            errors.append((rung.name, math.log(line.predicted.value) - math.log(line.measured.value)))
    return errors


def _credited(share: Contribution | None) -> str:
    if share is None or share.predicted_pct is None or share.measured_pct is None:
        return ""
    predicted, measured = one_digit(share.predicted_pct), one_digit(share.measured_pct)
    return f": its own share was predicted as {predicted} %, measured as {measured} % against {share.previous}"
