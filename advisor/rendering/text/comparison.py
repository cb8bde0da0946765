"""A run's predicted and measured values as text, and as the dictionary that `--json` prints."""

from collections.abc import Sequence

from advisor.feedback.causes import likely_cause
from advisor.feedback.compare import HEADLINES, ComparedMetric, ComparedRung, Comparison, Contribution, RangeVerdict, compare
from advisor.profiles.run import Run, RungStatus
from advisor.quantities.formatting import ABSENT, number, quantity, scale, signed_percent, spread, value_text
from advisor.quantities.metrics import METRICS
from advisor.rendering.text.charts import gauge
from advisor.rendering.text.run import error_cell, ladder_lines, lines_below_ladder, pace_words, rung_label
from advisor.rendering.text.speedup import speedup_lines
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table

_HEADS = ("metric", "predicted", "range", "measured", "error", "verdict", "● measured, ┃ limit")
_LEFT = ("metric", "verdict", _HEADS[6])
_RANGES_FROM_COLUMNS = 100
"""Minimum width of the range column; the verdict is always shown."""
_GAUGES_FROM_COLUMNS = 115
_VERDICT_WORDS = {verdict: verdict.value for verdict in RangeVerdict} | {RangeVerdict.OUTSIDE: "OUTSIDE range"}


def comparison_text(comparison: Comparison, *, width: int = 80, colour: bool = False, ascii: bool = False, every_rung: bool = False) -> str:
    """The ladder, the full stack metric by metric (`every_rung`: all rungs), contributions, median errors, limits, likely cause."""
    look = Look(width, colour, ascii)
    lines = [look.paint(line, "title") for line in wrap(f"Predicted against measured: run {comparison.run_id}, {comparison.title}", look)]
    lines += speedup_lines(comparison, look)
    lines += ["", *ladder_lines(comparison, look), *lines_below_ladder(comparison, look)]
    for rung in comparison.rungs if every_rung else comparison.rungs[-1:]:
        lines += ["", *rung_lines(rung, comparison, look)]
    lines += ["", *contribution_lines(comparison, look), *summary_lines(comparison, look), *cause_lines(comparison, look)]
    return look.finish(lines)


def comparison_dict(comparison: Comparison) -> dict[str, object]:
    """The JSON form, `format` 1.0; metric names end in their unit."""
    cause = likely_cause(comparison)
    return {
        "kind": "Comparison",
        "format": "1.0",
        "run": comparison.run_id,
        "plan": comparison.plan_id,
        "title": comparison.title,
        "speedups": [
            {
                "metric": speedup.metric,
                "ratio": speedup.ratio,
                "low": speedup.low,
                "high": speedup.high,
                "predicted": speedup.predicted,
                "pairs": speedup.pairs,
                "verdict": speedup.verdict.value,
            }
            for speedup in comparison.speedups
        ],
        "busy_share": comparison.busy_share,
        "rungs": [_rung_dict(rung) for rung in comparison.rungs],
        "shares": [
            {
                "technique": change.technique,
                "metric": change.metric,
                "against": change.previous,
                "predicted_pct": change.predicted_pct,
                "measured_pct": change.measured_pct,
            }
            for change in comparison.contributions
        ],
        "summary": {
            "median_abs_error_pct": {
                median.metric: {"value": median.error_pct, "rungs": median.rungs} for median in comparison.median_errors
            },
            "within_range": comparison.within,
            "compared": comparison.compared,
            "paces": list(comparison.paces),
            "limits_missed": [line.metric for line in comparison.limits_missed],
        },
        "likely_cause": cause and {"rung": cause.rung, "metric": cause.metric, "miss": cause.miss, "evidence": list(cause.evidence)},
        "exit_code": int(comparison.exit_code()),
        "exit_code_strict": int(comparison.exit_code(strict=True)),
    }


def _rung_dict(rung: ComparedRung) -> dict[str, object]:
    return {
        "name": rung.name,
        "techniques": list(rung.techniques),
        "status": rung.status.value,
        "error": rung.problem,
        "conditioned_on_baseline": rung.conditioned,
        "weights": rung.weights and rung.weights.model_dump(),
        "metrics": {line.metric: _metric_dict(line) for line in rung.metrics},
    }


def _metric_dict(line: ComparedMetric) -> dict[str, object]:
    return {
        "predicted": line.predicted.as_dict() if line.predicted else None,
        "measured": line.measured.as_dict() if line.measured else None,
        "error": line.error,
        "error_unit": line.error_unit,
        "verdict": line.verdict.value,
        "limit": line.limit,
        "limit_kept": line.limit_met,
    }


def rung_lines(rung: ComparedRung, comparison: Comparison, look: Look) -> list[str]:
    """One rung, metric by metric; limits are shown for the full stack only."""
    head = rung_label(rung, comparison.rungs)
    if rung is comparison.full_stack and len(comparison.rungs) > 1:
        head += "  (full stack)"
    if rung.status is not RungStatus.DONE:
        head += f"  {rung.status.value}" + (f": {rung.problem}" if rung.problem else "")
    lines = [look.paint(line, "bad" if rung.status is not RungStatus.DONE else "title") for line in wrap(head, look)]
    return [*lines, *_metrics(rung, look, limits=rung is comparison.full_stack)] if rung.metrics else lines


def _metrics(rung: ComparedRung, look: Look, *, limits: bool) -> list[str]:
    predicted = [line for line in rung.metrics if line.verdict is not RangeVerdict.NOT_PREDICTED]
    rows = [_cells(line, limits) for line in predicted]
    columns = [Column(head, tuple(row[index] for row in rows), left=head in _LEFT) for index, head in enumerate(_HEADS)]
    tones = tuple(_tone(line, limits) for line in predicted)
    columns[5] = Column(columns[5].head, columns[5].cells, tones, left=True)
    if look.columns < _GAUGES_FROM_COLUMNS:
        del columns[6]
    if look.columns < _RANGES_FROM_COLUMNS:
        del columns[2]
    lines = table(columns[0], [Group((column,)) for column in columns[1:]], look) if predicted else []
    return [*lines, *_measured_only(rung, look)]


def _measured_only(rung: ComparedRung, look: Look) -> list[str]:
    """Metrics that have no prediction, in a sentence."""
    values = [
        f"{METRICS[line.metric].label} {value_text(line.measured, METRICS[line.metric].unit)}"
        for line in rung.metrics
        if line.verdict is RangeVerdict.NOT_PREDICTED and line.measured
    ]
    return wrap("; ".join(values), look, first="Measured only: ", rest="  ") if values else []


def _tone(line: ComparedMetric, limits: bool) -> str:
    if limits and line.limit_met is False:
        return "bad"
    return {RangeVerdict.OUTSIDE: "risk", RangeVerdict.WITHIN: "good"}.get(line.verdict, "dim")


def _cells(line: ComparedMetric, limits: bool) -> tuple[str, ...]:
    info = METRICS[line.metric]
    scaled = scale(info.unit, (value.value for value in (line.predicted, line.measured) if value))
    error = error_cell(line, scaled).rstrip(" !")
    unit = "points" if line.error_unit == "fraction" else line.error_unit if line.error_unit in ("%", "points") else scaled.unit
    return (
        f"{info.label}, {scaled.unit}".rstrip(", "),
        number(line.predicted.value * scaled.factor) if line.predicted else ABSENT,
        spread(line.predicted, scaled) if line.predicted else "",
        number(line.measured.value * scaled.factor) if line.measured else ABSENT,
        error if error == ABSENT else f"{error} {unit}".rstrip(),
        _verdict(line) if limits else _VERDICT_WORDS[line.verdict],
        _gauge(line, limits),
    )


def _verdict(line: ComparedMetric) -> str:
    """For the full stack: the verdict, and whether the limit was met."""
    if line.limit_met is None:
        return _VERDICT_WORDS[line.verdict]
    word = {RangeVerdict.WITHIN: "within, ", RangeVerdict.OUTSIDE: "OUTSIDE, "}.get(line.verdict, "")
    return f"{word}limit {'met' if line.limit_met else 'MISSED'}"


def _gauge(line: ComparedMetric, limits: bool) -> str:
    if line.predicted is None or line.measured is None:
        return ""
    return gauge(line.predicted.low, line.predicted.high, line.measured.value, limit=line.limit if limits else None)


def contribution_lines(comparison: Comparison, look: Look) -> list[str]:
    """One row per technique: the change of each metric, predicted and measured."""
    names = list(dict.fromkeys(change.technique for change in comparison.contributions))
    if not names:
        return []
    key = Column("technique", tuple(names), left=True)
    groups = []
    for metric in HEADLINES:
        own = {change.technique: change for change in comparison.contributions if change.metric == metric}
        cells = [_contribution_cells(own.get(name)) for name in names]
        if any(cell != ABSENT for pair in cells for cell in pair):
            columns = (Column("pred.", tuple(pair[0] for pair in cells)), Column("meas.", tuple(pair[1] for pair in cells)))
            groups.append(Group(columns, f"{METRICS[metric].label}, %"))
    title = "What each technique changed, compared with the rung before it"
    return [*(look.paint(line, "title") for line in wrap(title, look)), *table(key, groups, look), ""]


def _contribution_cells(change: Contribution | None) -> tuple[str, str]:
    if change is None:
        return ABSENT, ABSENT
    return change_text(change.predicted_pct), change_text(change.measured_pct)


def change_text(value: float | None) -> str:
    """A change in percent with its sign, without the unit; a dash where there is none."""
    return ABSENT if value is None else signed_percent(value)


def summary_lines(comparison: Comparison, look: Look) -> list[str]:
    """Values within range, median error, pace of the processor, and each limit with its measured value."""
    lines = wrap(f"{comparison.within} of {comparison.compared} values within their predicted range.", look)
    headlines = [median for median in comparison.median_errors if median.metric in HEADLINES]
    if headlines:
        text = ", ".join(f"{METRICS[median.metric].label} {signed_percent(median.error_pct).lstrip('+')} %" for median in headlines)
        lines += wrap(
            f"{text} (of {max(median.rungs for median in headlines)} rungs).", look, first="Median error over the ladder: ", rest="  "
        )
    if comparison.paces:
        lines += wrap(f"Pace: {pace_words(comparison.paces)}.", look, rest="  ")
    final = comparison.full_stack
    limited = [line for line in final.metrics if line.limit is not None] if final else []
    for line in limited:
        assert line.limit is not None
        info = METRICS[line.metric]
        value = quantity(line.measured.value, info.unit) if line.measured else "not measured"
        word = {True: "met", False: "MISSED", None: "not measured"}[line.limit_met]
        text = f"Limit {word}: {info.label} {value}, limit {quantity(line.limit, info.unit, trim=True)}."
        lines += [look.paint(part, "bad" if line.limit_met is False else "good") for part in wrap(text, look)]
    return lines


def cause_lines(comparison: Comparison, look: Look) -> list[str]:
    """The largest miss and its likely cause; empty where every value is within its range."""
    cause = likely_cause(comparison)
    if cause is None:
        return []
    lines = ["", *wrap(f"{cause.miss}.", look, first="Largest miss  ")]
    for index, text in enumerate(cause.evidence):
        lines += wrap(f"{text}.", look, first="Likely cause  " if index == 0 else " " * 14)
    return lines


def run_comparison_lines(run: Run, look: Look, following: Sequence[str] = ()) -> list[str]:
    """Summary and likely cause, the lines of `following`, the full stack, the ladder, the other rungs, contributions."""
    comparison = compare(run)
    if not any(line.measured for rung in comparison.rungs for line in rung.metrics):
        return _nothing_measured(comparison, look)
    lines = [*speedup_lines(comparison, look), *summary_lines(comparison, look), *cause_lines(comparison, look), *following]
    rungs = comparison.rungs
    lines += [line for rung in rungs[-1:] for line in ("", *rung_lines(rung, comparison, look))]
    lines += ["", *ladder_lines(comparison, look), *lines_below_ladder(comparison, look)]
    lines += [line for rung in rungs[:-1] for line in ("", *rung_lines(rung, comparison, look))]
    return [*lines, "", *contribution_lines(comparison, look)]


def _nothing_measured(comparison: Comparison, look: Look) -> list[str]:
    """Why there is nothing to compare, rung by rung."""
    lines = wrap("Nothing was measured: the run ended before its first rung was done.", look)
    ended = [rung for rung in comparison.rungs if rung.status is not RungStatus.NOT_RUN]
    for rung in ended:
        lines += wrap(rung.problem or rung.status.value, look, first=f"{rung_label(rung, comparison.rungs)}  ")
    return [*lines, "", *wrap("a on the plan resumes it.", look)]
