"""Charts drawn with characters: points over two logarithmic axes, and the gauge of a range against a limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.quantities.formatting import number

LEAST_WIDTH = 24
LEAST_HEIGHT = 6
_LABEL_WIDTH = 7
_MIN_GAUGE_CELLS = 8


@dataclass(frozen=True, slots=True)
class Point:
    """One point: its coordinates, its glyph, and its drawing order."""

    x: float
    y: float
    glyph: str
    rank: int = 0
    """Points of higher rank are drawn over points of lower rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Names of both axes, and the limits drawn as lines."""

    x_name: str
    y_name: str
    x_limit: float | None = None
    """A vertical line."""
    y_limit: float | None = None
    """A horizontal line."""


def scatter(points: Sequence[Point], axes: Axes, width: int, height: int) -> list[str]:
    """A plot of at most `height` lines and `width` columns; a sentence where the space is too small or no point can be drawn."""
    drawn = [point for point in points if _positive(point.x) and _positive(point.y)]
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return ["Too small for the plot; the table has the same numbers."[: max(width, 0)]][: max(height, 0)]
    if not drawn:
        return [f"No plan has both {axes.x_name} and {axes.y_name}."[:width]]
    columns, rows = width - _LABEL_WIDTH - 2, height - 3
    x_ends, y_ends = _ends([point.x for point in drawn], axes.x_limit), _ends([point.y for point in drawn], axes.y_limit)
    grid = [[" "] * columns for _ in range(rows)]
    _draw_limits(grid, axes, x_ends, y_ends)
    for point in sorted(drawn, key=lambda point: point.rank):
        grid[rows - 1 - _cell_of(point.y, y_ends, rows)][_cell_of(point.x, x_ends, columns)] = point.glyph
    return [axes.y_name, *_with_labels(grid, y_ends), *_x_axis(x_ends, columns, axes.x_name)]


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _ends(values: Sequence[float], limit: float | None) -> tuple[float, float]:
    """Logarithms of both ends of an axis; they include the limit unless it is more than a factor of ten away from every value."""
    low, high = min(values), max(values)
    if limit is not None and _positive(limit) and low / 10 <= limit <= high * 10:
        low, high = min(low, limit), max(high, limit)
    first, last = math.log(low), math.log(high)
    middle, half = (first + last) / 2, max((last - first) / 2, math.log(1.1))
    return middle - half, middle + half


def _cell_of(value: float, ends: tuple[float, float], cells: int) -> int:
    share = (math.log(value) - ends[0]) / (ends[1] - ends[0])
    return min(cells - 1, max(0, round(share * (cells - 1))))


def _inside(value: float | None, ends: tuple[float, float]) -> bool:
    return value is not None and _positive(value) and ends[0] - 1e-9 <= math.log(value) <= ends[1] + 1e-9


def _draw_limits(grid: list[list[str]], axes: Axes, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> None:
    if axes.y_limit is not None and _inside(axes.y_limit, y_ends):
        row = len(grid) - 1 - _cell_of(axes.y_limit, y_ends, len(grid))
        grid[row] = ["─"] * len(grid[row])
    if axes.x_limit is not None and _inside(axes.x_limit, x_ends):
        column = _cell_of(axes.x_limit, x_ends, len(grid[0]))
        for line in grid:
            line[column] = "┃"


def _with_labels(grid: list[list[str]], ends: tuple[float, float]) -> list[str]:
    """The rows with the axis on their left, every fourth labelled with its value."""
    rows, lines = len(grid), []
    for row, cells in enumerate(grid):
        share = (rows - 1 - row) / max(rows - 1, 1)
        label = number(math.exp(ends[0] + share * (ends[1] - ends[0]))) if row % 4 == 0 else ""
        lines.append(f"{label[:_LABEL_WIDTH]:>{_LABEL_WIDTH}} │{''.join(cells)}".rstrip())
    return lines


def _x_axis(ends: tuple[float, float], columns: int, name: str) -> list[str]:
    line = [" "] * columns
    for share in (0.0, 1 / 3, 2 / 3):
        text = number(math.exp(ends[0] + share * (ends[1] - ends[0])))
        begin = round(share * (columns - 1))
        line[begin : begin + len(text)] = text
    start = columns - len(name)
    line[start:] = list(name)
    blank = " " * (_LABEL_WIDTH + 1)
    return [f"{blank}└{'─' * columns}", f"{blank} {''.join(line)[:columns]}".rstrip()]


def gauge(low: float, high: float, value: float, *, limit: float | None = None, cells: int = 24) -> str:
    """A range as `├──●──┤` over `cells` columns, with `┃` at the limit, on a linear scale from the smallest to the largest number drawn.

    Empty for infinite numbers and for fewer than eight cells.
    """
    drawn = [low, high, value] + ([limit] if limit is not None else [])
    if cells < _MIN_GAUGE_CELLS or not all(math.isfinite(number) for number in drawn):
        return ""
    first, last = min(drawn), max(drawn)
    if not last - first > 0 or not math.isfinite(last - first):
        return "●"
    columns = {number: round((number - first) / (last - first) * (cells - 1)) for number in drawn}
    line = [" "] * cells
    for column in range(columns[low], columns[high] + 1):
        line[column] = "─"
    line[columns[low]], line[columns[high]] = "├", "┤"
    if limit is not None:
        line[columns[limit]] = "┃"
    line[columns[value]] = "●"
    return "".join(line).rstrip()
