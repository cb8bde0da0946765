"""A range drawn on one line: low to high, where the value lies, where the limit lies."""

import math

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
