"""A list to pick from, narrowed by typing; one widget for models and machines."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, OptionList

from advisor.tui.form.choices import Choices, Option
from advisor.tui.panels.stable_text import TextField

MOST_LINES = 200


class Picker(Vertical):
    """A text field over the options that match it. Sends what was picked; what matches nothing is picked as typed, if that is allowed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Next", show=False),
        Binding("up", "move(-1)", "Previous", show=False),
    ]

    class Picked(Message):
        """A line was taken."""

        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, choices: Choices, *, typed: str = "", empty: str = "") -> None:
        super().__init__(classes="picker")
        self._choices = choices
        self._typed = typed
        self._empty = empty or "type to search"
        self._shown: tuple[Option, ...] = ()

    def compose(self) -> ComposeResult:
        """The field over the list."""
        yield TextField(placeholder=self._empty, compact=True)
        yield OptionList(compact=True)

    def on_mount(self) -> None:
        """Show all."""
        self._narrow("")

    def fill(self, choices: Choices) -> None:
        """Offer other options."""
        self._choices = choices
        self._narrow(self.query_one(Input).value)

    def focus_text(self) -> None:
        """Ready to type."""
        self.query_one(Input).focus()

    def begin_anew(self) -> None:
        """Ready to type, nothing typed yet."""
        self.query_one(Input).clear()
        self.focus_text()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list."""
        event.stop()
        self._narrow(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the marked line."""
        event.stop()
        place = self.query_one(OptionList).highlighted
        if place is not None and place < len(self._shown):
            self.post_message(self.Picked(self._shown[place].value))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take a line."""
        event.stop()
        self.post_message(self.Picked(self._shown[event.option_index].value))

    def action_move(self, step: int) -> None:
        """Move the mark while the field keeps the focus."""
        lines = self.query_one(OptionList)
        if lines.option_count:
            lines.highlighted = ((lines.highlighted or 0) + step) % lines.option_count

    def _narrow(self, text: str) -> None:
        found = self._choices.matching(text)[:MOST_LINES]
        if not found and self._typed and text.strip():
            found = (Option(text.strip(), self._typed.format(text=text.strip())),)
        self._shown = found
        lines = self.query_one(OptionList)
        lines.clear_options()
        lines.add_options([Text(option.label) for option in found])
        lines.highlighted = 0 if found else None
