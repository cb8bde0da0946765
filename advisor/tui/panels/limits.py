"""The form: model, machine, lengths, load and limits, each field checked while it is typed into."""

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
    """Every field of the form; each posts `FieldRow.Changed`."""

    BORDER_TITLE = "1 Limits"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "walk(1)", "Next field", show=False),
        Binding("up", "walk(-1)", "Previous field", show=False),
        Binding("enter", "type", "Type into the first empty field", show=False),
    ]

    def __init__(self, values: FormValues) -> None:
        super().__init__(id="limits", classes="panel")
        self._values = values
        self._constraints = ""

    def compose(self) -> ComposeResult:
        """One row for each field."""
        for field in FIELDS:
            if field.shown:
                text = self._values.text(field.name)
                yield Choice(field, text) if field.choices else FieldRow(field, text)

    def show(self, values: FormValues) -> None:
        """Show a question in the form."""
        for row in self.query(FieldRow):
            row.show(values.text(row.field.name))
        for choice in self.query(Choice):
            choice.show(values.text(choice.field.name))
        self._constraints = " ".join((*(f"+{name}" for name in values.require), *(f"-{name}" for name in values.forbid)))
        self._show_subtitle()

    def watch_has_focus(self, has_focus: bool) -> None:
        """Say how to type while no field has the focus."""
        super().watch_has_focus(has_focus)
        self._show_subtitle()

    def _show_subtitle(self) -> None:
        self.border_subtitle = "Enter: type into a field" if self.has_focus else self._constraints

    def show_effective(self, effective: Mapping[str, str]) -> None:
        """Show in empty fields the values that the planner used for them."""
        for row in self.query(FieldRow):
            row.input.placeholder = effective.get(row.field.name, row.field.empty)

    def show_errors(self, errors: Mapping[str, str]) -> None:
        """Show the error of each field below it."""
        for row in self.query(FieldRow):
            row.show_error(errors.get(row.field.name, ""))

    def focus_field(self, name: str) -> None:
        """Focus a field."""
        self.query_one(f"#field-{name}").focus()

    def action_type(self) -> None:
        """Focus the first empty field, else the first one."""
        rows = list(self.query(FieldRow))
        first = next((row for row in rows if not row.input.value), rows[0])
        first.input.focus()

    def action_walk(self, step: int) -> None:
        """Focus the next or the previous field; the first one where none has the focus."""
        fields = list(self.query(f"{TextField.__name__}, {Choice.__name__}"))
        index = next((index + step for index, field in enumerate(fields) if field.has_focus), 0)
        fields[min(max(index, 0), len(fields) - 1)].focus()
