"""The numbers of a plan that limits are set on, a line each: value, range, limit, the word, and a gauge where there is room."""

from advisor.numbers import percent, quantity, scale, spread
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Limits
from advisor.shown_metrics import SHOWN, Shown, limit_of
from advisor.views.metrics import chances, judged, limit_gauge
from advisor.views.style import Look, pad, shown_width

SHOWN_FIRST = ("ttft_ms_p95", "tpot_ms_p95", "throughput_tok_s", "request_rate_per_s", "peak_memory_gib", "quality_loss_pct")
_TONES = {"ok": "good", "risk": "risk", "FAIL": "bad", "": ""}
_GAUGE_CELLS = 16
_GAP = "  "


def verdict_lines(metrics: Metrics, limits: Limits, look: Look) -> list[str]:
    """One line for each number, cells aligned; of what does not fit, the gauge goes first and the probability next, never the verdict."""
    known = [(SHOWN[name], value) for name in SHOWN_FIRST if (value := getattr(metrics, name)) is not None]
    likely = chances(metrics, limits)
    columns = [
        [shown.label for shown, _ in known],
        [quantity(value.value, shown.unit) for shown, value in known],
        [spread(value, scale(shown.unit, (value.value,))) for shown, value in known],
        [_limit(shown, limits) for shown, _ in known],
        [judged(shown, value, limits) for shown, value in known],
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


def _limit(shown: Shown, limits: Limits) -> str:
    limit = limit_of(shown, limits)
    if limit is None:
        return ""
    return f"{'≥' if shown.higher_is_better else '≤'} {quantity(limit, shown.unit, trim=True)}"
