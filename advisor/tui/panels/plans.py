"""The table of plans: a column for each slot in which they differ, then numbers. The cursor stays on its plan when rows change."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    from advisor.planning.advice import Candidate
    from advisor.planning.alternatives import Alternative
    from advisor.rendering.text.style import Look
    from advisor.rendering.text.table import Column

_SORTED_BY = {
    "memory": ("peak_memory_gib", 1),
    "TTFT": ("ttft_ms_p95", 1),
    "TPOT": ("tpot_ms_p95", 1),
    "throughput": ("throughput_tok_s", -1),
    "quality": ("quality_loss_pct", 1),
}
WITHOUT_RANGES = 80
"""Width for which numbers are drawn without ranges, and without ids of plans."""
_LEAST_WORD = 4
"""Columns to which the words of techniques are cut at most; further ones are reached by scrolling."""
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
        super().__init__(id="plans", classes="panel", cursor_type="row", cell_padding=1, fixed_columns=1, header_height=2)
        self._ids: list[str] = []
        self._expected = ""
        self._sentences: tuple[str, ...] = ()
        self._content: TableContent | None = None
        self._fitted_width = 0

    def say(self, sentences: Sequence[str]) -> None:
        """Show sentences in place of plans."""
        self._sentences, self._content = tuple(sentences), None
        self._ids = []
        self._draw_sentences()

    def on_resize(self) -> None:
        """Fit columns, or wrap sentences, into the new width."""
        if self._sentences:
            self._draw_sentences()
        elif self._content is not None and self.scrollable_content_region.width != self._fitted_width:
            self.fill(self._content)

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
        from advisor.rendering.text.plans import row_tones

        self._sentences, self._content = (), rows
        self._fitted_width = self.scrollable_content_region.width
        self.clear(columns=True)
        self.show_header = self.show_cursor = True
        self._ids = [plan.id for plan in rows.plans]
        self._expected = rows.selected
        if not rows.plans:
            return
        marks = [_mark(plan, rows) for plan in rows.plans]
        width = self._fitted_width - _widest(marks) - 2 * self.cell_padding
        columns = fitting_columns([plan.candidate for plan in rows.plans], rows.look, width, 2 * self.cell_padding)
        self.add_column("", key="zone", width=_widest(marks))
        for column in columns:  # explicit widths: the table draws itself before it has measured cells
            head = Text(_shown(column.head, rows.look), justify="left" if column.left else "right")
            self.add_column(head, key=column.head, width=_width(column))
        for row, (plan, tone) in enumerate(zip(rows.plans, row_tones([plan.candidate for plan in rows.plans]), strict=True)):
            style = tone_style(tone, rows.palette)
            cells = (Text(_shown(column.cells[row], rows.look), style, justify="left" if column.left else "right") for column in columns)
            self.add_row(Text(marks[row], style), *cells, key=plan.id)
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


def fitting_columns(candidates: "Sequence[Candidate]", look: "Look", width: int, gap: int) -> "list[Column]":
    """Numbers, then the techniques in which the plans differ, in `width` columns of the terminal with `gap` beside each of them.

    Heads take two lines. Where the width runs out, numbers lose their ranges first, then words are cut; numbers never are.
    """
    from advisor.rendering.text.plans import number_columns, technique_columns

    def total(columns: "Iterable[Column]") -> int:
        return sum(_width(column) + gap for column in columns)

    numbers = [_on_two_lines(column) for column in number_columns(candidates, look)]
    techniques = [_on_two_lines(column) for column in technique_columns(candidates)]
    if total([*numbers, *techniques]) > width:
        numbers = [_on_two_lines(column) for column in number_columns(candidates, replace(look, width=WITHOUT_RANGES))]
    while techniques and total([*numbers, *techniques]) > width:
        widest = max(range(len(techniques)), key=lambda index: _width(techniques[index]))
        if _width(techniques[widest]) <= _LEAST_WORD:
            break
        techniques[widest] = _cut(techniques[widest], _width(techniques[widest]) - 1)
    return [*numbers, *techniques]


def _on_two_lines(column: "Column") -> "Column":
    return replace(column, head=column.head.replace(" ", "\n", 1))


def _cut(column: "Column", width: int) -> "Column":
    from advisor.rendering.text.style import clip

    head = "\n".join(line[:width] for line in column.head.split("\n"))
    return replace(column, head=head, cells=tuple(clip(cell, width) for cell in column.cells))


def _width(column: "Column") -> int:
    return _widest([*column.head.split("\n"), *column.cells])


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
    return look.finish(text.split("\n")).rstrip("\n")
