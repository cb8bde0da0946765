"""A field with a few values to choose from by the left and right keys."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Static

from advisor.tui.form.fields import Field
from advisor.tui.panels.field_row import FieldRow


class Choice(Static, can_focus=True):
    """One line: label and chosen value."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1)", "Previous", show=False),
        Binding("right,l,space,enter", "move(1)", "Next", show=False),
    ]

    def __init__(self, field: Field, text: str) -> None:
        super().__init__(id=f"field-{field.name}", markup=False)
        self.field = field
        self.chosen = text or field.choices[0]

    def render(self) -> str:
        """The label, and the chosen value between angle brackets."""
        return f"{self.field.label:<22}< {self.chosen} >"

    def show(self, text: str) -> None:
        """Choose a value without a message."""
        self.chosen = text if text in self.field.choices else self.field.choices[0]
        self.refresh()

    def action_move(self, step: int) -> None:
        """Choose the next or the previous value; the first one is the default and posted as an empty text."""
        choices = self.field.choices
        self.chosen = choices[(choices.index(self.chosen) + step) % len(choices)]
        self.refresh()
        self.post_message(FieldRow.Changed(self.field.name, "" if self.chosen == choices[0] else self.chosen))
