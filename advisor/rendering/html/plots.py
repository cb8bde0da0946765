"""The plots of a run's page as inline SVG. Colours come from the page's style sheet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.profiles.metrics import Value
from advisor.quantities.formatting import Scale, number
from advisor.rendering.html.elements import Markup, joined, tag

_WIDTH = 520
_LABELS = 158
"""Width of the rung names, pixels."""
_RIGHT = 18
_TOP = 8
_AXIS = 40
_ROW = 30
_SIDE = 300
_BAND = 0.25
_LEAST, _MOST = 1e-300, 1e300
"""Between these, logarithms and their inverses stay finite."""
_LEAST_SPAN = 0.8
"""An axis that does not begin at 0 begins at this share of its maximum or lower, so that noise does not look like a difference."""
_ZOOM_FROM = 0.4
"""The axis does not begin at 0 where the smallest number is above this share of the largest."""


@dataclass(frozen=True, slots=True)
class Row:
    """One rung of a ladder plot."""

    label: str
    predicted: Value | None
    measured: Value | None


@dataclass(frozen=True, slots=True)
class StackedBar:
    """One rung of a memory plot: parts by name, predicted and measured."""

    label: str
    predicted: tuple[tuple[str, float], ...]
    measured: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """One rung of a distribution plot."""

    label: str
    numbers: tuple[float, ...]
    median: float
    p95: float


def ladder_plot(name: str, rows: Sequence[Row], scaled: Scale) -> Markup:
    """Per rung: the predicted value in its range, the measured value below it."""
    values = [value for row in rows for value in (row.predicted, row.measured) if value]
    lowest = min((value.low * scaled.factor for value in values), default=0.0)
    axis = _Axis(max((value.high * scaled.factor for value in values), default=0.0), lowest)
    marks = [_label(row.label, index) for index, row in enumerate(rows)]
    for index, row in enumerate(rows):
        middle = _TOP + index * _ROW + _ROW / 2
        if row.predicted:
            marks.append(_whisker(row.predicted, axis, scaled, middle - 5, "predicted"))
        if row.measured:
            marks.append(_whisker(row.measured, axis, scaled, middle + 6, "measured"))
    description = f"{name} of {len(rows)} rungs. The table next to the plot has the same numbers."
    return _rows_svg(f"{name}: predicted and measured along the ladder", description, marks, axis, len(rows), f"{name}, {scaled.unit}")


def scatter_plot(name: str, rows: Sequence[Row], scaled: Scale) -> Markup:
    """Predicted over measured on logarithmic axes, with the line where they are equal and a band of ±25 %; points carry row numbers."""
    pairs = [(index, row.predicted, row.measured) for index, row in enumerate(rows) if row.predicted and row.measured]
    sized = [(index, measured.value * scaled.factor, predicted.value * scaled.factor) for index, predicted, measured in pairs]
    points = [point for point in sized if min(point[1:]) > _LEAST and max(point[1:]) < _MOST]
    if not points:
        return Markup("")
    sizes = [size for _, *pair in points for size in pair]
    low, high = math.log(min(sizes)) - 0.35, math.log(max(sizes)) + 0.35
    edge, inner = 48.0, _SIDE - 48.0 - 14

    def across(size: float) -> float:
        return edge + (math.log(size) - low) / (high - low) * inner

    def up(size: float) -> float:
        return 14 + inner - (across(size) - edge)

    ends = [math.exp(low), math.exp(high)]
    band = [(ends[0], 1 + _BAND), (ends[1], 1 + _BAND), (ends[1], 1 - _BAND), (ends[0], 1 - _BAND)]
    corners = " ".join(f"{across(size):.1f},{up(size * share):.1f}" for size, share in band)
    clip = f"clip-{_slug(name)}"
    frame = {"x": edge, "y": 14.0, "width": inner, "height": inner}
    marks = [
        tag("clipPath", tag("rect", **frame), id=clip),
        tag("rect", **frame, class_="frame"),
        tag("polygon", points=corners, class_="band", clip_path=f"url(#{clip})"),
        tag("line", x1=across(ends[0]), y1=up(ends[0]), x2=across(ends[1]), y2=up(ends[1]), class_="equal"),
    ]
    for tick in log_ticks(ends[0], ends[1]):
        marks.append(tag("text", number(tick, trim=True), x=across(tick), y=_SIDE - 32, class_="tick middle"))
        marks.append(tag("text", number(tick, trim=True), x=edge - 6, y=up(tick) + 4, class_="tick end"))
    marks.append(tag("text", f"measured, {scaled.unit}", x=edge + inner / 2, y=_SIDE - 12, class_="axis middle"))
    marks.append(
        tag(
            "text", f"predicted, {scaled.unit}", x=0, y=0, class_="axis middle", transform=f"translate(11 {14 + inner / 2:.0f}) rotate(-90)"
        )
    )
    marks += [_point(index, rows[index].label, measured, predicted, scaled, (across, up)) for index, measured, predicted in points]
    description = "A point on the line was predicted exactly; the band is ±25 % of the measured value; points are numbered as in the table."
    return _svg(f"{name}: predicted against measured", description, marks, _SIDE, _SIDE - 6)


_ToPixels = tuple[Callable[[float], float], Callable[[float], float]]


def _point(index: int, label: str, measured: float, predicted: float, scaled: Scale, to_pixels: _ToPixels) -> Markup:
    x, y = to_pixels[0](measured), to_pixels[1](predicted)
    return tag(
        "g",
        tag("title", f"{label}: predicted {number(predicted)}, measured {number(measured)} {scaled.unit}"),
        tag("circle", cx=x, cy=y, r=8.5, class_="point"),
        tag("text", str(index), x=x, y=y + 3.8, class_="digit middle"),
    )


def distribution_plot(name: str, rows: Sequence[Dots], unit: str) -> Markup:
    """Every request as a dot, the median as a long tick and the 95th percentile as a short one."""
    axis = _Axis(max((size for row in rows for size in row.numbers), default=0.0))
    marks = [_label(row.label, index) for index, row in enumerate(rows)]
    for index, row in enumerate(rows):
        middle = _TOP + index * _ROW + _ROW / 2
        # A fixed pattern of vertical offsets separates the dots and gives the same file for the same run.
        dots = [tag("circle", cx=axis.at(size), cy=middle + (index * 5 % 11 - 5) * 1.3, r=2.6) for index, size in enumerate(row.numbers)]
        marks.append(tag("g", *dots, class_="dots"))
        for size, half, kind in ((row.median, 12, "median"), (row.p95, 7, "p95")):
            if row.numbers:
                line = tag(
                    "line",
                    tag("title", f"{row.label}: {kind} {number(size)} {unit}"),
                    x1=axis.at(size),
                    x2=axis.at(size),
                    y1=middle - half,
                    y2=middle + half,
                    class_=kind,
                )
                marks.append(line)
    description = f"{name} of every request, one row per rung; long tick median, short tick 95th percentile. The table holds the figures."
    return _rows_svg(f"{name} per request", description, marks, axis, len(rows), f"{name}, {unit}")


def memory_plot(rows: Sequence[StackedBar], scaled: Scale) -> Markup:
    """Per rung: measured memory by part, and below it, thinner, the prediction."""
    totals = [sum(size for _, size in parts) for row in rows for parts in (row.predicted, row.measured)]
    axis = _Axis(max((total * scaled.factor for total in totals), default=0.0))
    marks = [_label(row.label, index) for index, row in enumerate(rows)]
    for index, row in enumerate(rows):
        top = _TOP + index * _ROW
        marks += _bar(row.label, "measured", row.measured, axis, scaled, top + 4, 13)
        marks += _bar(row.label, "predicted", row.predicted, axis, scaled, top + 19, 6)
    description = "Weights, KV cache and everything else, stacked; thick bars measured, thin bars predicted. The table holds the figures."
    return _rows_svg("Memory by part along the ladder", description, marks, axis, len(rows), f"memory, {scaled.unit}")


def _bar(
    label: str, kind: str, parts: tuple[tuple[str, float], ...], axis: "_Axis", scaled: Scale, top: float, height: float
) -> list[Markup]:
    bars, begin = [], 0.0
    for index, (name, size) in enumerate(parts):
        x, end = axis.at(begin), axis.at(begin + size * scaled.factor)
        title = tag("title", f"{label}, {kind}: {name} {number(size * scaled.factor)} {scaled.unit}")
        bars.append(tag("rect", title, x=x, y=top, width=max(0.0, end - x), height=height, class_=f"part part{index} {kind}"))
        begin += size * scaled.factor
    return bars


def ticks(high: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to at least `high`, about `count` of them."""
    if not (high > 0 and math.isfinite(high)):
        return [0.0, 1.0]
    rough = high / count
    if rough == 0 or not math.isfinite(1 / rough):
        return [0.0, high]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= rough * 0.999), 10 * power)
    return [step * index for index in range(math.ceil(high / step * 0.999) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high`: 1, 2 and 5 of each decade, fewer where there are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    every = max(1, (last - first) // 6)
    candidates = [factor * 10.0**power for power in range(first, last + 1, every) for factor in factors]
    return [tick for tick in candidates if low <= tick <= high]


class _Axis:
    """A linear axis over the width of a row plot: from 0, or from a round number below `low` where all numbers are close together."""

    def __init__(self, high: float, low: float = 0.0) -> None:
        begin = min(low, _LEAST_SPAN * high) if low > _ZOOM_FROM * high else 0.0
        steps = ticks(high - begin)
        first = math.floor(begin / steps[1]) * steps[1] if begin and steps[1] > 0 else 0.0
        self.ticks = [first + step for step in steps]
        if first and self.ticks[-1] < high:
            self.ticks.append(self.ticks[-1] + steps[1])

    def at(self, size: float) -> float:
        """The x coordinate of `size` in pixels; values outside the axis lie at its edge."""
        length = self.ticks[-1] - self.ticks[0]
        share = (size - self.ticks[0]) / length if length > 0 else 0.0
        return _LABELS + (max(0.0, min(1.0, share)) if math.isfinite(share) else 0.0) * (_WIDTH - _LABELS - _RIGHT)


def _whisker(value: Value, axis: _Axis, scaled: Scale, y: float, kind: str) -> Markup:
    """A range with its value: a dot for predicted, a diamond for measured."""
    low, middle, high = (axis.at(size * scaled.factor) for size in (value.low, value.value, value.high))
    shown = f"{kind} {number(value.value * scaled.factor)} [{number(value.low * scaled.factor)}, {number(value.high * scaled.factor)}]"
    diamond = tag("path", d=f"M{middle:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z")
    mark = diamond if kind == "measured" else tag("circle", cx=middle, cy=y, r=4.2)
    ends = [tag("line", x1=x, x2=x, y1=y - 3, y2=y + 3) for x in (low, high)] if high - low > 2 else []
    return tag("g", tag("title", f"{shown} {scaled.unit}"), tag("line", x1=low, x2=high, y1=y, y2=y), *ends, mark, class_=kind)


def _label(text: str, index: int) -> Markup:
    short = text if len(text) <= 24 else text[:23] + "…"
    return tag("text", tag("title", text), short, x=_LABELS - 10, y=_TOP + index * _ROW + _ROW / 2 + 4, class_="rung end")


def _rows_svg(title: str, description: str, marks: list[Markup], axis: _Axis, rows: int, unit: str) -> Markup:
    bottom = _TOP + max(1, rows) * _ROW
    grid = [tag("line", x1=axis.at(tick), x2=axis.at(tick), y1=_TOP, y2=bottom, class_="grid") for tick in axis.ticks]
    texts = [tag("text", number(tick, trim=True), x=axis.at(tick), y=bottom + 16, class_="tick middle") for tick in axis.ticks]
    name = tag("text", unit.rstrip(", "), x=(_LABELS + _WIDTH - _RIGHT) / 2, y=bottom + 34, class_="axis middle")
    return _svg(title, description, [*grid, *texts, name, *marks], _WIDTH, bottom + _AXIS)


def _svg(title: str, description: str, marks: list[Markup], width: float, height: float) -> Markup:
    slug = _slug(title)
    return tag(
        "svg",
        tag("title", title, id=f"t-{slug}"),
        tag("desc", description, id=f"d-{slug}"),
        joined(*marks),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"t-{slug} d-{slug}",
    )


def _slug(text: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in text.lower())
