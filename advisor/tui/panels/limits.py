"""The form: model, machine, lengths, load and limits, each field checked as it is typed."""

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from advisor.tui.form.fields import FIELDS
from advisor.tui.form.values import FormValues
from advisor.tui.panels.choice import Choice
from advisor.tui.panels.field_row import FieldRow
from advisor.tui.panels.stable_text import TextField


class LimitsPanel(VerticalScroll, can_focus=True):
    """Every field of the form; what is typed goes out as `FieldRow.Typed`."""

    BORDER_TITLE = "1 Limits"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "walk(1)", "Next field", show=False),
        Binding("up", "walk(-1)", "Previous field", show=False),
    ]

    def __init__(self, asked: FormValues) -> None:
        super().__init__(id="limits", classes="panel")
        self._asked = asked

    def compose(self) -> ComposeResult:
        """One row for each field that is shown."""
        for field in FIELDS:
            if field.shown:
                text = self._asked.text(field.name)
                yield Choice(field, text) if field.choices else FieldRow(field, text)

    def show(self, asked: FormValues) -> None:
        """Put the texts of a question into the form, as after undo."""
        for row in self.query(FieldRow):
            row.show(asked.text(row.field.name))
        for choice in self.query(Choice):
            choice.show(asked.text(choice.field.name))
        self.border_subtitle = " ".join((*(f"+{name}" for name in asked.require), *(f"-{name}" for name in asked.forbid)))

    def show_meant(self, meant: Mapping[str, str]) -> None:
        """Say in empty fields what they were taken for."""
        for row in self.query(FieldRow):
            row.input.placeholder = meant.get(row.field.name, row.field.empty)

    def show_errors(self, errors: Mapping[str, str]) -> None:
        """Say under each field what is wrong with it."""
        for row in self.query(FieldRow):
            row.show_error(errors.get(row.field.name, ""))

    def focus_first(self) -> None:
        """Go to the first field that is empty among model and limits, else to the first."""
        rows = list(self.query(FieldRow))
        wanted = next((row for row in rows if not row.input.value), rows[0])
        wanted.input.focus()

    def action_walk(self, step: int) -> None:
        """Go to the next or the previous field; to the first from none."""
        stops = list(self.query(f"{TextField.__name__}, {Choice.__name__}"))
        place = next((place + step for place, stop in enumerate(stops) if stop.has_focus), 0)
        stops[min(max(place, 0), len(stops) - 1)].focus()
