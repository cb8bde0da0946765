"""Two plans side by side: their techniques by slot, then each metric of both and its change from the first to the second."""

import textwrap
from collections.abc import Iterator
from itertools import zip_longest

from advisor.backends.technique import Slot
from advisor.planning.advice import Candidate
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.quantities.formatting import ABSENT, number, percent, scale, spread
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.text.metrics import STATUS_TONES, limit_status
from advisor.rendering.text.plans import SLOT_HEADS, describe
from advisor.rendering.text.style import Look, pad
from advisor.rendering.text.table import Column, Group, table

_GAP = "  "


def side_by_side(first: Candidate, second: Candidate, limits: Limits, look: Look) -> list[str]:
    """Two tables: techniques by slot, and metrics with their status; with ranges where the width allows both."""
    columns = _numbers(first, second, limits, ranges=True)
    if sum(column.width + len(_GAP) for column in columns) - len(_GAP) > look.columns:
        columns = _numbers(first, second, limits, ranges=False)
    key, *rest = columns
    return [*_techniques(first, second, look), "", *table(key, [Group((column,)) for column in rest], look)]


def _techniques(first: Candidate, second: Candidate, look: Look) -> list[str]:
    """A row for each slot that either plan fills; a technique that is too long for its column is wrapped."""
    slots = [slot for slot in Slot if any(technique.slot is slot for technique in (*first.techniques, *second.techniques))]
    cells = [(SLOT_HEADS[slot], _in_slot(first, slot), _in_slot(second, slot)) for slot in slots]
    heads = [(head, left, "same" if left == right else right) for head, left, right in cells]
    label = max((len(head) for head, _, _ in heads), default=0)
    side = max((look.columns - label - 2 * len(_GAP)) // 2, 8)
    lines = [line for head, left, right in heads for line in _row_of(pad(head, label), _broken(left, side), _broken(right, side))]
    width = max((len(left) for _, left, _ in lines), default=0)
    drawn = [_GAP.join((head, pad(left, width), right)) for head, left, right in lines]
    return [look.paint(_GAP.join((pad("", label), pad("first", width), "second")), "dim"), *drawn]


def _row_of(head: str, left: list[str], right: list[str]) -> Iterator[tuple[str, str, str]]:
    """The lines of one row; only the first has its head."""
    for index, (left_line, right_line) in enumerate(zip_longest(left, right, fillvalue="")):
        yield head if index == 0 else " " * len(head), left_line, right_line


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=_GAP, break_on_hyphens=False)


def _in_slot(candidate: Candidate, slot: Slot) -> str:
    return next((describe(technique) for technique in candidate.techniques if technique.slot is slot), ABSENT)


def _numbers(first: Candidate, second: Candidate, limits: Limits, *, ranges: bool) -> list[Column]:
    rows = [("All limits met", percent(first.probability), "", percent(second.probability), "", "")]
    rows += [
        _row(METRICS[name], _value(first.metrics, name), _value(second.metrics, name), limits, ranges=ranges)
        for name in METRICS
        if _says_more(name, first.metrics, second.metrics, limits)
    ]
    key, *cells = (tuple(row[index] for row in rows) for index in range(6))
    heads = ("first", "", "second", "", "change")
    columns = [
        Column(head, column, tuple(STATUS_TONES[cell] for cell in column) if not head else (), left=not head)
        for head, column in zip(heads, cells, strict=True)
        if any(column)
    ]
    return [Column("", key, left=True), *columns]


def _says_more(name: str, left: Metrics, right: Metrics, limits: Limits) -> bool:
    """Whether a metric has a limit, or has values in both plans that differ from the mean in the row above."""
    values = [_value(metrics, name) for metrics in (left, right)]
    if limits.on(name) is not None:
        return any(values)
    mean = f"{name.rpartition('_')[0]}_mean"
    means = [_value(metrics, mean) for metrics in (left, right)] if mean in METRICS and mean != name else None
    return all(values) and values != means


def _value(metrics: Metrics, name: str) -> Value | None:
    value: Value | None = getattr(metrics, name)
    return value


def _row(info: MetricInfo, left: Value | None, right: Value | None, limits: Limits, *, ranges: bool) -> tuple[str, str, str, str, str, str]:
    scaled = scale(info.unit, [value.value for value in (left, right) if value])

    def text_of(value: Value | None) -> str:
        if value is None:
            return ABSENT
        return f"{number(value.value * scaled.factor)} {spread(value, scaled) if ranges else ''}".rstrip()

    words = (limit_status(info, value, limits) if value else "" for value in (left, right))
    label = f"{info.label} {scaled.unit}".rstrip()
    return label, text_of(left), next(words), text_of(right), next(words), _change(info, left, right)


def _change(info: MetricInfo, left: Value | None, right: Value | None) -> str:
    if left is None or right is None or not left.value or not info.relative_error:
        return ""
    share = 100 * (right.value / left.value - 1)
    return f"{share:+.0f} %" if abs(share) >= 0.5 else "same"
