"""The table of plans: a column for each slot in which they differ, then numbers. The cursor stays on its plan when rows change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from advisor.tui.palette import tone_style
from advisor.tui.panels.stable_text import LEAST_WIDTH, StableWidget

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
"""Mark of a plan whose numbers come from the closed form."""
GLYPHS = {"frontier": "◆", "feasible": "o", "rejected": "×"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContent:
    """Content of the table."""

    plans: "Sequence[Alternative]"
    selected: str
    """Id of a plan."""
    marked: Sequence[str]
    """Ids of plans."""
    look: "Look"
    palette: str


class PlansPanel(DataTable[Text], StableWidget):
    """One row for each plan; posts the one that the cursor is moved to."""

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
        self._expected = ""
        self._sentences: tuple[str, ...] = ()

    def say(self, sentences: Sequence[str]) -> None:
        """Show sentences in place of plans."""
        self._sentences = tuple(sentences)
        self._ids = []
        self._draw_sentences()

    def on_resize(self) -> None:
        """Wrap sentences into the new width."""
        if self._sentences:
            self._draw_sentences()

    def _draw_sentences(self) -> None:
        width = max(self.scrollable_content_region.width - 2 * self.cell_padding, LEAST_WIDTH)
        self.clear(columns=True)
        self.show_header = self.show_cursor = False
        self.border_subtitle = ""
        self.add_column("", width=width)
        for sentence in self._sentences:
            for line in wrap(sentence, width) or [""]:
                self.add_row(Text(line))

    def fill(self, rows: TableContent) -> None:
        """Show these plans, the cursor on the selected one."""
        from advisor.rendering.text.plans import plan_columns

        self._sentences = ()
        self.clear(columns=True)
        self.show_header = self.show_cursor = True
        self._ids = [plan.id for plan in rows.plans]
        self._expected = rows.selected
        if not rows.plans:
            return
        glyph, *columns = plan_columns([plan.candidate for plan in rows.plans], rows.look)
        marks = [_mark(plan, rows) for plan in rows.plans]
        texts = [[_shown(cell, rows.look) for cell in column.cells] for column in columns]
        self.add_column("", key="zone", width=_widest(marks))
        for column, cells in zip(columns, texts, strict=True):  # explicit widths: the table draws itself before it has measured cells
            head = _shown(column.head, rows.look)
            self.add_column(Text(head), key=column.head, width=_widest([head, *cells]))
        for row, plan in enumerate(rows.plans):
            tone = tone_style(glyph.tones[row], rows.palette)
            cells_of_row = [
                Text(cells[row], tone, justify="left" if column.left else "right") for column, cells in zip(columns, texts, strict=True)
            ]
            self.add_row(Text(marks[row], tone), *cells_of_row, key=plan.id)
        self.border_subtitle = "" if all(plan.simulated for plan in rows.plans) else f"{CLOSED_FORM} closed form, not simulated yet"
        self.move_to(rows.selected)

    def move_to(self, plan: str) -> None:
        """Move the cursor to a plan without a message."""
        self._expected = plan
        if plan in self._ids:
            self.move_cursor(row=self._ids.index(plan), animate=False)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Post the plan under the cursor, unless `move_to` moved it there or the cursor has moved on."""
        event.stop()
        if not self.has_focus or event.cursor_row != self.cursor_row or not 0 <= event.cursor_row < len(self._ids):
            return
        plan = self._ids[event.cursor_row]
        if plan != self._expected:
            self._expected = plan
            self.post_message(self.Selected(plan))


def _mark(plan: "Alternative", rows: TableContent) -> str:
    """Glyph of feasibility, mark for comparison, and mark of the closed form."""
    marked, source = "m" if plan.id in rows.marked else " ", "" if plan.simulated else CLOSED_FORM
    return _shown(GLYPHS[plan.feasibility.value], rows.look) + marked + source


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts))


def filtered(plans: "Sequence[Alternative]", filter: str, sort: str) -> "list[Alternative]":
    """The plans of a filter (`frontier`, `feasible`, `all`) in an order of `SORTS`; all plans where the filter has none."""
    allowed = {"frontier": ("frontier",), "feasible": ("frontier", "feasible")}.get(filter, ("frontier", "feasible", "rejected"))
    passing = [plan for plan in plans if plan.feasibility.value in allowed] or list(plans)
    if sort in _SORTED_BY:
        metric, sign = _SORTED_BY[sort]
        passing.sort(key=lambda plan: _number(plan, metric) * sign)
    return passing


def _number(plan: "Alternative", metric: str) -> float:
    value = getattr(plan.candidate.metrics, metric)
    return value.value if value is not None else math.inf


def _shown(text: str, look: "Look") -> str:
    return look.finish([text]).rstrip("\n")
