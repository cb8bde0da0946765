"""Metrics as text: value, range, limit, status, probability of meeting the limit, gauge and basis, one line each.

The status is `ok`, `risk` where the predicted range crosses the limit, or `FAIL` where the value misses it.
"""

from collections.abc import Iterable

from advisor.estimate.uncertainty.probability import probability_of_meeting
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.quantities.formatting import number, percent, quantity, scale, spread
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies
from advisor.rendering.text.charts import gauge
from advisor.rendering.text.style import Look, pad, shown_width, wrap
from advisor.rendering.text.table import Column, Group, table

STATUS_TONES = {"ok": "good", "risk": "risk", "FAIL": "bad", "": ""}
"""Status of a limit to the tone it is painted in."""
_GAUGES_FROM_COLUMNS = 110
_GAUGE_CELLS = 16
_GAP = "  "


def metrics_text(metrics: Metrics, limits: Limits | None = None, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Every metric that has a value, compared with its limit where there is one."""
    look = Look(width, colour, ascii)
    return look.finish(metric_lines(metrics, limits or Limits(), look))


def assumption_lines(assumptions: Iterable[str], *, width: int = 80, colour: bool = False, ascii: bool = False) -> list[str]:
    """What was decided where the question leaves it open, a line or more each."""
    look = Look(width, colour, ascii)
    return look.finish([line for sentence in assumptions for line in wrap(f"{sentence}.", look)]).splitlines()


def extrapolation_lines(warning: str | None, *, width: int = 80, colour: bool = False, ascii: bool = False) -> list[str]:
    """How the setting differs from all measurements that predictions were compared with; empty without a warning."""
    if warning is None:
        return []
    look = Look(width, colour, ascii)
    lines = wrap(f"{warning[0].upper()}{warning[1:]}.", look)
    return look.finish([look.paint(line, "risk") for line in lines]).splitlines()


def metric_lines(metrics: Metrics, limits: Limits, look: Look) -> list[str]:
    """A table with a row for every metric that has a value; limit, status, probability and gauge only where a limit is set."""
    rows = [(METRICS[name], value) for name, value in metrics.present().items()]
    if not rows:
        return ["No metric is known."]
    statuses = tuple(limit_status(info, value, limits) for info, value in rows)
    limited = any(statuses)
    columns = [Column("value", tuple(quantity(value.value, info.unit) for info, value in rows)), _ranges(rows)]
    if limited:
        columns.append(Column("limit", tuple(_limit(info, limits) for info, _ in rows)))
        columns.append(Column("", statuses, tuple(STATUS_TONES[status] for status in statuses), left=True))
        columns.append(Column("met", tuple(_probability_text(info, value, limits) for info, value in rows)))
    columns.append(Column("basis", tuple(value.basis.value for _, value in rows), left=True))
    if limited and look.columns >= _GAUGES_FROM_COLUMNS:
        columns.append(Column("● value, ┃ limit", tuple(limit_gauge(info, value, limits) for info, value in rows), left=True))
    key = Column("metric", tuple(info.label for info, _ in rows), left=True)
    return table(key, [Group((column,)) for column in columns], look)


LIMITED_METRICS = tuple(metric.name for metric in METRIC_OF.values())
"""The metrics that a limit bounds."""


def limit_lines(metrics: Metrics, limits: Limits, look: Look) -> list[str]:
    """One line for each metric that a limit can bound, cells aligned.

    Where the width is short, the gauge is dropped first and the probability next; limit and status never are.
    """
    rows = [(METRICS[name], value) for name in LIMITED_METRICS if (value := getattr(metrics, name)) is not None]
    columns = [
        [info.label for info, _ in rows],
        [quantity(value.value, info.unit) for info, value in rows],
        list(_ranges(rows).cells),
        [_limit(info, limits) for info, _ in rows],
        [limit_status(info, value, limits) for info, value in rows],
        [_probability_text(info, value, limits) for info, value in rows],
        [limit_gauge(info, value, limits, cells=_GAUGE_CELLS) for info, value in rows],
    ]
    while len(columns) > 5 and _total_width(columns) > look.columns:
        columns.pop()
    widths = [max(map(shown_width, column), default=0) for column in columns]
    breaks = _total_width(columns) > look.columns
    return [line for row in range(len(rows)) for line in _row_lines([column[row] for column in columns], widths, look, breaks=breaks)]


def _total_width(columns: list[list[str]]) -> int:
    widths = [max(map(shown_width, column), default=0) for column in columns]
    return sum(widths) + len(_GAP) * (sum(map(bool, widths)) - 1)


def _row_lines(cells: list[str], widths: list[int], look: Look, *, breaks: bool) -> list[str]:
    """Cells side by side, numbers aligned to the right; with `breaks`, limit and status on a second line."""
    parts = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = pad(cell, width, right=index in (1, 5))
        parts.append(look.paint(text, STATUS_TONES[cell]) if index == 4 and cell else text)
    if not breaks:
        return [_GAP.join(part for part, width in zip(parts, widths, strict=True) if width).rstrip()]
    first, second = _GAP.join(parts[:3]).rstrip(), _GAP.join(parts[3:]).rstrip()
    return [first, f"    {second}"] if cells[3] else [first]


def limit_probabilities(metrics: Metrics, limits: Limits) -> dict[str, float]:
    """Metric name to the probability, 0 to 1, that its limit is met; only metrics with a value and a limit."""
    rows = ((METRICS[name], value) for name, value in metrics.present().items())
    return {info.name: chance for info, value in rows if (chance := _probability(info, value, limits)) is not None}


def _probability(info: MetricInfo, value: Value, limits: Limits) -> float | None:
    limit = limits.on(info.name)
    return None if limit is None else probability_of_meeting(value, limit, higher_is_better=info.higher_is_better)


def _probability_text(info: MetricInfo, value: Value, limits: Limits) -> str:
    chance = _probability(info, value, limits)
    return "" if chance is None else percent(chance)


def limit_status(info: MetricInfo, value: Value, limits: Limits) -> str:
    """`ok`, `risk` or `FAIL`; empty without a limit."""
    limit = limits.on(info.name)
    if limit is None:
        return ""
    if not satisfies(info, value.value, limit):
        return "FAIL"
    worst = value.low if info.higher_is_better else value.high
    return "ok" if satisfies(info, worst, limit) else "risk"


def limit_gauge(info: MetricInfo, value: Value, limits: Limits, **size: int) -> str:
    """The value's range drawn against its limit; empty without a limit. `size` as of `gauge`."""
    limit = limits.on(info.name)
    return "" if limit is None else gauge(value.low, value.high, value.value, limit=limit, **size)


def limit_words(name: str, bound: float) -> str:
    """A field of `Limits` with its bound, as in `TPOT p95 at most 30 ms`."""
    info = METRIC_OF.get(name)
    if info is None:
        return f"{name.replace('_', ' ')} {number(bound, trim=True)}"
    return f"{info.label} {bound_words(info, bound)}"


def bound_words(info: MetricInfo, bound: float) -> str:
    """A bound of a metric with its direction and unit, as in `at most 30 ms`."""
    return f"{'at least' if info.higher_is_better else 'at most'} {quantity(bound, info.unit, trim=True)}"


def _ranges(rows: list[tuple[MetricInfo, Value]]) -> Column:
    return Column("range", tuple(spread(value, scale(info.unit, (value.value,))) for info, value in rows))


def _limit(info: MetricInfo, limits: Limits) -> str:
    limit = limits.on(info.name)
    return "" if limit is None else f"{'≥' if info.higher_is_better else '≤'} {quantity(limit, info.unit, trim=True)}"
