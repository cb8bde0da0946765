"""Two plans side by side: what each is made of, then each number of both, and the change from the first to the second."""

import textwrap
from collections.abc import Iterator
from itertools import zip_longest

from advisor.backends.technique import Slot
from advisor.planning.advice import Candidate
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.quantities.formatting import ABSENT, number, percent, scale, spread
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.text.metrics import limit_status
from advisor.rendering.text.plans import SLOT_HEADS, describe
from advisor.rendering.text.style import Look, pad
from advisor.rendering.text.table import Column, Group, table

_GAP = "  "
_TONES = {"ok": "good", "risk": "risk", "FAIL": "bad", "": ""}


def side_by_side(first: Candidate, second: Candidate, limits: Limits, look: Look) -> list[str]:
    """Two tables: techniques by slot, and numbers with their words; with their ranges where there is room for those of both."""
    columns = _numbers(first, second, limits, ranges=True)
    if sum(column.width + len(_GAP) for column in columns) - len(_GAP) > look.columns:
        columns = _numbers(first, second, limits, ranges=False)
    key, *rest = columns
    return [*_techniques(first, second, look), "", *table(key, [Group((column,)) for column in rest], look)]


def _techniques(first: Candidate, second: Candidate, look: Look) -> list[str]:
    """A row for each slot that either plan fills; a technique that is too long for its column goes on below."""
    slots = [slot for slot in Slot if any(technique.slot is slot for technique in (*first.techniques, *second.techniques))]
    told = [(SLOT_HEADS[slot], _in_slot(first, slot), _in_slot(second, slot)) for slot in slots]
    heads = [(head, mine, "same" if mine == theirs else theirs) for head, mine, theirs in told]
    label = max((len(head) for head, _, _ in heads), default=0)
    room = max((look.columns - label - 2 * len(_GAP)) // 2, 8)
    lines = [line for head, mine, theirs in heads for line in _row_of(pad(head, label), _broken(mine, room), _broken(theirs, room))]
    width = max((len(mine) for _, mine, _ in lines), default=0)
    drawn = [_GAP.join((head, pad(mine, width), theirs)) for head, mine, theirs in lines]
    return [look.paint(_GAP.join((pad("", label), pad("first", width), "second")), "dim"), *drawn]


def _row_of(head: str, mine: list[str], theirs: list[str]) -> Iterator[tuple[str, str, str]]:
    """The lines of one row; only the first has its head."""
    for place, (left, right) in enumerate(zip_longest(mine, theirs, fillvalue="")):
        yield head if place == 0 else " " * len(head), left, right


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=_GAP, break_on_hyphens=False)


def _in_slot(candidate: Candidate, slot: Slot) -> str:
    return next((describe(technique) for technique in candidate.techniques if technique.slot is slot), ABSENT)


def _numbers(first: Candidate, second: Candidate, limits: Limits, *, ranges: bool) -> list[Column]:
    rows = [("All limits kept", percent(first.probability), "", percent(second.probability), "", "")]
    rows += [
        _row(METRICS[name], _known(first.metrics, name), _known(second.metrics, name), limits, ranges=ranges)
        for name in METRICS
        if _says_more(name, first.metrics, second.metrics, limits)
    ]
    key, *cells = (tuple(row[place] for row in rows) for place in range(6))
    heads = ("first", "", "second", "", "change")
    columns = [
        Column(head, column, tuple(_TONES[cell] for cell in column) if not head else (), left=not head)
        for head, column in zip(heads, cells, strict=True)
        if any(column)
    ]
    return [Column("", key, left=True), *columns]


def _says_more(name: str, mine: Metrics, theirs: Metrics, limits: Limits) -> bool:
    """Whether a metric has a limit, or is known of both plans and is not just the mean that stands above it."""
    values = [_known(metrics, name) for metrics in (mine, theirs)]
    if limits.on(name) is not None:
        return any(values)
    mean = f"{name.rpartition('_')[0]}_mean"
    means = [_known(metrics, mean) for metrics in (mine, theirs)] if mean in METRICS and mean != name else None
    return all(values) and values != means


def _known(metrics: Metrics, name: str) -> Value | None:
    value: Value | None = getattr(metrics, name)
    return value


def _row(
    shown: MetricInfo, mine: Value | None, theirs: Value | None, limits: Limits, *, ranges: bool
) -> tuple[str, str, str, str, str, str]:
    scaled = scale(shown.unit, [value.value for value in (mine, theirs) if value])

    def told(value: Value | None) -> str:
        if value is None:
            return ABSENT
        return f"{number(value.value * scaled.factor)} {spread(value, scaled) if ranges else ''}".rstrip()

    words = (limit_status(shown, value, limits) if value else "" for value in (mine, theirs))
    label = f"{shown.label} {scaled.unit}".rstrip()
    return label, told(mine), next(words), told(theirs), next(words), _change(shown, mine, theirs)


def _change(shown: MetricInfo, mine: Value | None, theirs: Value | None) -> str:
    if mine is None or theirs is None or not mine.value or not shown.relative_error:
        return ""
    share = 100 * (theirs.value / mine.value - 1)
    return f"{share:+.0f} %" if abs(share) >= 0.5 else "same"
