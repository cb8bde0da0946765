"""The table of plans: a column per slot in which they differ, then numbers; filtered, sorted, the cursor kept by plan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from advisor.tui.palette import tone_style
from advisor.tui.panels.stable_text import Steady

if TYPE_CHECKING:
    from advisor.planning.alternatives import Alternative
    from advisor.rendering.text.style import Look

_SORTED_BY = {
    "memory": ("peak_memory_gib", 1),
    "TTFT": ("ttft_ms_p95", 1),
    "TPOT": ("tpot_ms_p95", 1),
    "throughput": ("throughput_tok_s", -1),
    "quality": ("quality_loss_pct", 1),
}
CLOSED_FORM = "~"
"""Beside the glyph of a plan whose numbers come from the closed form."""
GLYPHS = {"frontier": "◆", "feasible": "o", "rejected": "×"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the table is to show."""

    spots: "Sequence[Alternative]"
    selected: str
    marked: Sequence[str]
    look: "Look"
    palette: str


class PlansPanel(DataTable[Text], Steady):
    """One row for each plan; sends the one that the cursor is moved to."""

    BORDER_TITLE = "2 Plans"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", "First plan", show=False),
        Binding("end", "scroll_bottom", "Last plan", show=False),
    ]

    class Selected(Message):
        """The cursor was moved to a plan."""

        def __init__(self, plan: str) -> None:
            super().__init__()
            self.plan = plan

    def __init__(self) -> None:
        super().__init__(id="plans", classes="panel", cursor_type="row", cell_padding=1, fixed_columns=1)
        self._ids: list[str] = []
        self._intended = ""

    def fill(self, rows: Rows) -> None:
        """Show these plans, the cursor on the selected one, which is shown whatever the filter."""
        from advisor.rendering.text.plans import plan_columns

        self.clear(columns=True)
        self._ids = [spot.id for spot in rows.spots]
        self._intended = rows.selected
        if not rows.spots:
            return
        glyph, *columns = plan_columns([spot.candidate for spot in rows.spots], rows.look)
        marks = [_mark(spot, rows) for spot in rows.spots]
        texts = [[_shown(cell, rows.look) for cell in column.cells] for column in columns]
        self.add_column("", key="zone", width=_widest(marks))
        for column, cells in zip(columns, texts, strict=True):  # told how wide: the table would draw itself before it had measured
            head = _shown(column.head, rows.look)
            self.add_column(Text(head), key=column.head, width=_widest([head, *cells]))
        for place, spot in enumerate(rows.spots):
            tone = tone_style(glyph.tones[place], rows.palette)
            row = [
                Text(cells[place], tone, justify="left" if column.left else "right") for column, cells in zip(columns, texts, strict=True)
            ]
            self.add_row(Text(marks[place], tone), *row, key=spot.id)
        self.border_subtitle = "" if all(spot.simulated for spot in rows.spots) else f"{CLOSED_FORM} closed form, not simulated yet"
        self.move_to(rows.selected)

    def move_to(self, plan: str) -> None:
        """Put the cursor on a plan without saying so."""
        self._intended = plan
        if plan in self._ids:
            self.move_cursor(row=self._ids.index(plan), animate=False)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Send where the cursor is, unless it was put there; what has been overtaken by a later move is let go."""
        event.stop()
        if not self.has_focus or event.cursor_row != self.cursor_row or not 0 <= event.cursor_row < len(self._ids):
            return
        plan = self._ids[event.cursor_row]
        if plan != self._intended:
            self._intended = plan
            self.post_message(self.Selected(plan))


def _mark(spot: "Alternative", rows: Rows) -> str:
    """How a plan stands, whether it is marked, and whether its numbers are the closed form's."""
    marked, how = "m" if spot.id in rows.marked else " ", "" if spot.simulated else CLOSED_FORM
    return _shown(GLYPHS[spot.zone.value], rows.look) + marked + how


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts))


def filtered(spots: "Sequence[Alternative]", filter: str, sort: str) -> "list[Alternative]":
    """The plans that a filter lets through, in an order; where nothing fits all of them, as no table may be empty."""
    wanted = {"frontier": ("frontier",), "feasible": ("frontier", "feasible")}.get(filter, ("frontier", "feasible", "rejected"))
    kept = [spot for spot in spots if spot.zone.value in wanted] or list(spots)
    if sort in _SORTED_BY:
        metric, sign = _SORTED_BY[sort]
        kept.sort(key=lambda spot: _number(spot, metric) * sign)
    return kept


def _number(spot: "Alternative", metric: str) -> float:
    value = getattr(spot.candidate.metrics, metric)
    return value.value if value is not None else math.inf


def _shown(text: str, look: "Look") -> str:
    return look.finish([text]).rstrip("\n")
