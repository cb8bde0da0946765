"""Two plans side by side: what each is made of, then each number of both, and the change from the first to the second."""

from advisor.advice import Candidate
from advisor.backends.technique import Slot
from advisor.numbers import ABSENT, number, percent, scale, spread
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.shown_metrics import SHOWN, Shown
from advisor.views.metrics import judged
from advisor.views.plans import SLOT_HEADS, describe
from advisor.views.style import Look
from advisor.views.table import Column, Group, table

_TONES = {"ok": "good", "risk": "risk", "FAIL": "bad", "": ""}


def side_by_side(first: Candidate, second: Candidate, limits: Limits, look: Look) -> list[str]:
    """Two tables: techniques by slot, and numbers with their ranges and words."""
    return [*_techniques(first, second, look), "", *_numbers(first, second, limits, look)]


def _techniques(first: Candidate, second: Candidate, look: Look) -> list[str]:
    slots = [slot for slot in Slot if any(technique.slot is slot for technique in (*first.techniques, *second.techniques))]
    mine, theirs = (tuple(_in_slot(candidate, slot) for slot in slots) for candidate in (first, second))
    differ = tuple("differs" if one != other else "" for one, other in zip(mine, theirs, strict=True))
    key = Column("", tuple(SLOT_HEADS[slot] for slot in slots), left=True)
    columns = (Column("first", mine, left=True), Column("second", theirs, left=True), Column("", differ, left=True))
    return table(key, [Group(columns)], look)


def _in_slot(candidate: Candidate, slot: Slot) -> str:
    return next((describe(technique) for technique in candidate.techniques if technique.slot is slot), ABSENT)


def _numbers(first: Candidate, second: Candidate, limits: Limits, look: Look) -> list[str]:
    names = [name for name in SHOWN if _known(first.metrics, name) is not None or _known(second.metrics, name) is not None]
    rows = [_row(SHOWN[name], _known(first.metrics, name), _known(second.metrics, name), limits) for name in names]
    rows.append(("kept", percent(first.probability), "", percent(second.probability), "", ""))
    key, *cells = (tuple(row[place] for row in rows) for place in range(6))
    heads = ("first", "", "second", "", "change")
    columns = [
        Column(head, column, tuple(_TONES[cell] for cell in column) if not head else (), left=not head)
        for head, column in zip(heads, cells, strict=True)
    ]
    return table(Column("", key, left=True), [Group((column,)) for column in columns], look)


def _known(metrics: Metrics, name: str) -> Value | None:
    value: Value | None = getattr(metrics, name)
    return value


def _row(shown: Shown, mine: Value | None, theirs: Value | None, limits: Limits) -> tuple[str, str, str, str, str, str]:
    scaled = scale(shown.unit, [value.value for value in (mine, theirs) if value])

    def told(value: Value | None) -> str:
        return f"{number(value.value * scaled.factor)} {spread(value, scaled)}".rstrip() if value else ABSENT

    words = (judged(shown, value, limits) if value else "" for value in (mine, theirs))
    label = f"{shown.label} {scaled.unit}".rstrip()
    return label, told(mine), next(words), told(theirs), next(words), _change(shown, mine, theirs)


def _change(shown: Shown, mine: Value | None, theirs: Value | None) -> str:
    if mine is None or theirs is None or not mine.value or not shown.relative_error:
        return ""
    share = 100 * (theirs.value / mine.value - 1)
    return f"{share:+.0f} %" if abs(share) >= 0.5 else "same"
