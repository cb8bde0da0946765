"""The verdict on a run as HTML: values within their range, missed limits, failed rungs, and the likely cause of the largest miss."""

from advisor.feedback.causes import likely_cause
from advisor.feedback.compare import HEADLINES, ComparedMetric, Comparison, RangeVerdict
from advisor.feedback.speedup import headline
from advisor.profiles.run import RungStatus
from advisor.quantities.formatting import quantity, signed_percent
from advisor.quantities.metrics import METRICS
from advisor.rendering.html.elements import Markup, tag
from advisor.rendering.text.speedup import conditions


def verdict(comparison: Comparison) -> Markup:
    """Values within range; missed limits, failed rungs, errors of ours, values outside their range; likely cause of the largest miss."""
    faults = [f"{name}: {fault}." for name, fault in comparison.faults]
    misses = [*_limit_misses(comparison), *_failed_rungs(comparison), *faults, *_range_misses(comparison)]
    head = f"{comparison.within} of {comparison.compared} measured values lie within their predicted range."
    medians = [
        f"{METRICS[median.metric].label} {error_percent(median.error_pct)}"
        for median in comparison.median_errors
        if median.metric in HEADLINES
    ]
    lines = []
    if comparison.speedups:
        first = comparison.speedups[0]
        sentence = headline(first)
        lines.append(tag("p", tag("strong", f"{sentence[0].upper()}{sentence[1:]}."), class_=f"speedup {first.verdict.name.lower()}"))
    lines.append(tag("p", tag("strong", head)))
    lines += [tag("p", sentence) for sentence in conditions(comparison)]
    if medians:
        lines.append(tag("p", f"Median error over the ladder: {', '.join(medians)}."))
    if misses:
        lines.append(tag("ul", *(tag("li", miss) for miss in misses), class_="misses"))
    cause = likely_cause(comparison)
    if cause:
        lines.append(tag("p", f"Largest miss: {cause.miss}."))
        if cause.evidence:
            lines.append(tag("p", f"Likely cause: {'; '.join(cause.evidence)}."))
    bad = bool(misses) or comparison.full_stack is None
    return tag("div", *lines, class_="verdict missed" if bad else "verdict", role="status")


def _limit_misses(comparison: Comparison) -> list[Markup]:
    return [
        tag("span", f"Limit missed by the full stack: {_against_limit(line)}.", class_="missed-limit") for line in comparison.limits_missed
    ]


def _against_limit(line: ComparedMetric) -> str:
    info = METRICS[line.metric]
    assert line.measured is not None
    assert line.limit is not None
    return f"{info.label} {quantity(line.measured.value, info.unit)}, limit {quantity(line.limit, info.unit, trim=True)}"


def _failed_rungs(comparison: Comparison) -> list[str]:
    return [
        f"{rung.name}: {rung.status.value}" + (f": {rung.problem}" if rung.problem else "")
        for rung in comparison.rungs
        if rung.status is not RungStatus.DONE
    ]


def _range_misses(comparison: Comparison) -> list[str]:
    """One line per rung: the headline metrics outside their predicted range, and the number of other values outside."""
    lines = []
    for rung in comparison.rungs:
        outside = [line for line in rung.metrics if line.verdict is RangeVerdict.OUTSIDE]
        named = [_miss(line) for line in outside if line.metric in HEADLINES] or [_miss(line) for line in outside]
        others = f"; and {len(outside) - len(named)} more, listed under Every number" if len(outside) > len(named) else ""
        if outside:
            lines.append(f"{rung.name}, outside the predicted range: {'; '.join(named)}{others}.")
    return lines


def _miss(line: ComparedMetric) -> str:
    info = METRICS[line.metric]
    assert line.predicted is not None
    assert line.measured is not None
    predicted, measured = (quantity(value.value, info.unit) for value in (line.predicted, line.measured))
    return f"{info.label} {measured}, predicted {predicted}"


def error_percent(size: float) -> str:
    """The size of an error, in percent, without its sign."""
    return f"{signed_percent(size).lstrip('+')} %"
