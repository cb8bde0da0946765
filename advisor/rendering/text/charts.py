"""Points over two logarithmic axes, drawn with characters: pure data in, lines out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.quantities.formatting import number

LEAST_WIDTH = 24
LEAST_HEIGHT = 6
_LABEL = 7


@dataclass(frozen=True, slots=True)
class Point:
    """One point: where, its glyph, and which is drawn over which."""

    x: float
    y: float
    glyph: str
    rank: int = 0
    """Higher ones are drawn over lower ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What is drawn besides points."""

    x_name: str
    y_name: str
    x_limit: float | None = None
    """A vertical line."""
    y_limit: float | None = None
    """A horizontal line."""


def scatter(points: Sequence[Point], axes: Axes, width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` columns, ticks at powers between both ends; a sentence where it cannot be drawn."""
    drawn = [point for point in points if _positive(point.x) and _positive(point.y)]
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return ["Too small for the plot; the table has the same numbers."[: max(width, 0)]][: max(height, 0)]
    if not drawn:
        return [f"No plan has both {axes.x_name} and {axes.y_name}."[:width]]
    columns, rows = width - _LABEL - 2, height - 3
    x_ends, y_ends = _ends([point.x for point in drawn], axes.x_limit), _ends([point.y for point in drawn], axes.y_limit)
    grid = [[" "] * columns for _ in range(rows)]
    _draw_limits(grid, axes, x_ends, y_ends)
    for point in sorted(drawn, key=lambda point: point.rank):
        grid[rows - 1 - _place(point.y, y_ends, rows)][_place(point.x, x_ends, columns)] = point.glyph
    return [axes.y_name, *_with_labels(grid, y_ends), *_x_axis(x_ends, columns, axes.x_name)]


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _ends(values: Sequence[float], limit: float | None) -> tuple[float, float]:
    """Logarithms of both ends of an axis, the limit within them unless it is more than tenfold away."""
    low, high = min(values), max(values)
    if limit is not None and _positive(limit) and low / 10 <= limit <= high * 10:
        low, high = min(low, limit), max(high, limit)
    first, last = math.log(low), math.log(high)
    middle, half = (first + last) / 2, max((last - first) / 2, math.log(1.1))
    return middle - half, middle + half


def _place(value: float, ends: tuple[float, float], cells: int) -> int:
    share = (math.log(value) - ends[0]) / (ends[1] - ends[0])
    return min(cells - 1, max(0, round(share * (cells - 1))))


def _inside(value: float | None, ends: tuple[float, float]) -> bool:
    return value is not None and _positive(value) and ends[0] - 1e-9 <= math.log(value) <= ends[1] + 1e-9


def _draw_limits(grid: list[list[str]], axes: Axes, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> None:
    if axes.y_limit is not None and _inside(axes.y_limit, y_ends):
        row = len(grid) - 1 - _place(axes.y_limit, y_ends, len(grid))
        grid[row] = ["─"] * len(grid[row])
    if axes.x_limit is not None and _inside(axes.x_limit, x_ends):
        column = _place(axes.x_limit, x_ends, len(grid[0]))
        for line in grid:
            line[column] = "┃"


def _with_labels(grid: list[list[str]], ends: tuple[float, float]) -> list[str]:
    """Every fourth row says its value."""
    rows, lines = len(grid), []
    for row, cells in enumerate(grid):
        share = (rows - 1 - row) / max(rows - 1, 1)
        label = number(math.exp(ends[0] + share * (ends[1] - ends[0]))) if row % 4 == 0 else ""
        lines.append(f"{label[:_LABEL]:>{_LABEL}} │{''.join(cells)}".rstrip())
    return lines


def _x_axis(ends: tuple[float, float], columns: int, name: str) -> list[str]:
    line = [" "] * columns
    for share in (0.0, 1 / 3, 2 / 3):
        text = number(math.exp(ends[0] + share * (ends[1] - ends[0])))
        at = round(share * (columns - 1))
        line[at : at + len(text)] = text
    start = columns - len(name)
    line[start:] = [" " if start > 0 and place == -1 else character for place, character in enumerate(name)]
    blank = " " * (_LABEL + 1)
    return [f"{blank}└{'─' * columns}", f"{blank} {''.join(line)[:columns]}".rstrip()]


_MIN_CELLS = 8


def gauge(low: float, high: float, value: float, *, limit: float | None = None, cells: int = 24) -> str:
    """`├──●──┤` over `cells` columns, with `┃` at the limit; the scale spans all that is drawn. Empty where it cannot be drawn."""
    drawn = [low, high, value] + ([limit] if limit is not None else [])
    if cells < _MIN_CELLS or not all(math.isfinite(number) for number in drawn):
        return ""
    first, last = min(drawn), max(drawn)
    if not last - first > 0 or not math.isfinite(last - first):
        return "●"
    at = {number: round((number - first) / (last - first) * (cells - 1)) for number in drawn}
    line = [" "] * cells
    for column in range(at[low], at[high] + 1):
        line[column] = "─"
    line[at[low]], line[at[high]] = "├", "┤"
    if limit is not None:
        line[at[limit]] = "┃"
    line[at[value]] = "●"
    return "".join(line).rstrip()
