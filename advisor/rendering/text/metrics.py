"""Metrics as text: value, range, limit, verdict word, gauge and basis, one line each."""

from advisor.estimate.uncertainty.probability import probability_of_meeting
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.quantities.formatting import number, percent, quantity, scale, spread
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies
from advisor.rendering.text.charts import gauge
from advisor.rendering.text.style import Look, pad, shown_width, wrap
from advisor.rendering.text.table import Column, Group, table

_GAUGES_FROM_COLUMNS = 110
_TONES = {"ok": "good", "risk": "risk", "FAIL": "bad", "": ""}


def metrics_text(metrics: Metrics, limits: Limits | None = None, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Every metric that is known, judged against its limit where there is one."""
    look = Look(width, colour, ascii)
    return look.finish(metric_lines(metrics, limits or Limits(), look))


def extrapolation_lines(outside: str | None, *, width: int = 80, colour: bool = False, ascii: bool = False) -> list[str]:
    """Why the setting is unlike all that was compared with measurements, in lines; none where it is not."""
    if outside is None:
        return []
    look = Look(width, colour, ascii)
    lines = wrap(f"{outside[0].upper()}{outside[1:]}.", look)
    return look.finish([look.paint(line, "risk") for line in lines]).splitlines()


def metric_lines(metrics: Metrics, limits: Limits, look: Look) -> list[str]:
    """The table behind `metrics_text`."""
    known = [(METRICS[name], value) for name, value in metrics.present().items()]
    if not known:
        return ["No metric is known."]
    words = tuple(limit_status(shown, value, limits) for shown, value in known)
    chances = tuple(_chance(shown, value, limits) for shown, value in known)
    limited = any(words)
    columns = [Column("value", tuple(quantity(value.value, shown.unit) for shown, value in known)), _ranges(known)]
    if limited:
        columns.append(Column("limit", tuple(_limit(shown, limits) for shown, _ in known)))
        columns.append(Column("", words, tuple(_TONES[word] for word in words), left=True))
        columns.append(Column("kept", chances))
    columns.append(Column("basis", tuple(value.basis.value for _, value in known), left=True))
    if limited and look.columns >= _GAUGES_FROM_COLUMNS:
        columns.append(Column("● value, ┃ limit", tuple(limit_gauge(shown, value, limits) for shown, value in known), left=True))
    key = Column("metric", tuple(shown.label for shown, _ in known), left=True)
    return table(key, [Group((column,)) for column in columns], look)


def limit_probabilities(metrics: Metrics, limits: Limits) -> dict[str, float]:
    """How likely each limit is kept, by the name of its metric."""
    known = ((METRICS[name], value) for name, value in metrics.present().items())
    return {shown.name: chance for shown, value in known if (chance := _kept(shown, value, limits)) is not None}


def _chance(shown: MetricInfo, value: Value, limits: Limits) -> str:
    """How likely the limit is kept; empty without one."""
    chance = _kept(shown, value, limits)
    return "" if chance is None else percent(chance)


def _kept(shown: MetricInfo, value: Value, limits: Limits) -> float | None:
    limit = limits.on(shown.name)
    return None if limit is None else probability_of_meeting(value, limit, higher_is_better=shown.higher_is_better)


def limit_status(shown: MetricInfo, value: Value, limits: Limits) -> str:
    """`ok`, `risk` when the range crosses the limit, `FAIL`; empty without a limit."""
    limit = limits.on(shown.name)
    if limit is None:
        return ""
    if not satisfies(shown, value.value, limit):
        return "FAIL"
    worst = value.low if shown.higher_is_better else value.high
    return "ok" if satisfies(shown, worst, limit) else "risk"


def _ranges(known: list[tuple[MetricInfo, Value]]) -> Column:
    return Column("range", tuple(spread(value, scale(shown.unit, (value.value,))) for shown, value in known))


def _limit(shown: MetricInfo, limits: Limits) -> str:
    limit = limits.on(shown.name)
    if limit is None:
        return ""
    return f"{'min' if shown.higher_is_better else 'max'} {quantity(limit, shown.unit, trim=True)}"


def limit_gauge(shown: MetricInfo, value: Value, limits: Limits, **size: int) -> str:
    """The value's range against its limit, drawn; empty without a limit. `size` as of `gauge`."""
    limit = limits.on(shown.name)
    return "" if limit is None else gauge(value.low, value.high, value.value, limit=limit, **size)


def limit_words(name: str, bound: float) -> str:
    """A field of `Limits` with a bound, as in `TPOT p95 at most 30 ms`."""
    shown = METRIC_OF.get(name)
    if shown is None:
        return f"{name.replace('_', ' ')} {number(bound, trim=True)}"
    return f"{shown.label} {'at least' if shown.higher_is_better else 'at most'} {quantity(bound, shown.unit, trim=True)}"


SUMMARY_METRICS = tuple(metric.name for metric in METRIC_OF.values())
"""The metrics that a limit bounds."""
_TONES = {"ok": "good", "risk": "risk", "FAIL": "bad", "": ""}
_GAUGE_CELLS = 16
_GAP = "  "


def verdict_lines(metrics: Metrics, limits: Limits, look: Look) -> list[str]:
    """One line for each number, cells aligned; of what does not fit, the gauge goes first and the probability next, never the verdict."""
    known = [(METRICS[name], value) for name in SUMMARY_METRICS if (value := getattr(metrics, name)) is not None]
    likely = limit_probabilities(metrics, limits)
    columns = [
        [shown.label for shown, _ in known],
        [quantity(value.value, shown.unit) for shown, value in known],
        [spread(value, scale(shown.unit, (value.value,))) for shown, value in known],
        [_limit_sign(shown, limits) for shown, _ in known],
        [limit_status(shown, value, limits) for shown, value in known],
        [percent(likely[shown.name]) if shown.name in likely else "" for shown, _ in known],
        [limit_gauge(shown, value, limits, cells=_GAUGE_CELLS) for shown, value in known],
    ]
    while len(columns) > 5 and _width(columns) > look.columns:
        columns.pop()
    widths = [max(map(shown_width, column), default=0) for column in columns]
    breaks = _width(columns) > look.columns
    return [line for row in range(len(known)) for line in _lines([column[row] for column in columns], widths, look, breaks=breaks)]


def _width(columns: list[list[str]]) -> int:
    widths = [max(map(shown_width, column), default=0) for column in columns]
    return sum(widths) + len(_GAP) * (sum(map(bool, widths)) - 1)


def _lines(cells: list[str], widths: list[int], look: Look, *, breaks: bool) -> list[str]:
    """Cells side by side, numbers to the right; where that `breaks` the width, limit and word on a line below."""
    parts = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = pad(cell, width, right=place in (1, 5))
        parts.append(look.paint(text, _TONES[cell]) if place == 4 and cell else text)
    if not breaks:
        return [_GAP.join(part for part, width in zip(parts, widths, strict=True) if width).rstrip()]
    first, second = _GAP.join(parts[:3]).rstrip(), _GAP.join(parts[3:]).rstrip()
    return [first, f"    {second}"] if cells[3] else [first]


def _limit_sign(shown: MetricInfo, limits: Limits) -> str:
    limit = limits.on(shown.name)
    if limit is None:
        return ""
    return f"{'≥' if shown.higher_is_better else '≤'} {quantity(limit, shown.unit, trim=True)}"
