"""A list to pick from, filtered by a text."""

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
    """A text field over the options that match it. Posts the value that was picked.

    `other` is the line for a text that matches no option, such as `use {text}`; empty where such a text cannot be picked.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Next", show=False),
        Binding("up", "move(-1)", "Previous", show=False),
    ]

    class Picked(Message):
        """A line was picked."""

        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, choices: Choices, *, other: str = "", placeholder: str = "") -> None:
        super().__init__(classes="picker")
        self._choices = choices
        self._other = other
        self._placeholder = placeholder or "type to search"
        self._shown: tuple[Option, ...] = ()

    def compose(self) -> ComposeResult:
        """The field over the list."""
        yield TextField(placeholder=self._placeholder, compact=True)
        yield OptionList(compact=True)

    def on_mount(self) -> None:
        """Show all options."""
        self._filter("")

    def fill(self, choices: Choices) -> None:
        """Replace the options."""
        self._choices = choices
        self._filter(self.query_one(Input).value)

    def focus_text(self) -> None:
        """Focus the text."""
        self.query_one(Input).focus()

    def clear(self) -> None:
        """Empty the text and focus it."""
        self.query_one(Input).clear()
        self.focus_text()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter the list."""
        event.stop()
        self._filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pick the marked line."""
        event.stop()
        index = self.query_one(OptionList).highlighted
        if index is not None and index < len(self._shown):
            self.post_message(self.Picked(self._shown[index].value))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Pick a line."""
        event.stop()
        self.post_message(self.Picked(self._shown[event.option_index].value))

    def action_move(self, step: int) -> None:
        """Move the mark; the text keeps the focus."""
        lines = self.query_one(OptionList)
        if lines.option_count:
            lines.highlighted = ((lines.highlighted or 0) + step) % lines.option_count

    def _filter(self, text: str) -> None:
        options = self._choices.matching(text)[:MOST_LINES]
        if not options and self._other and text.strip():
            options = (Option(text.strip(), self._other.format(text=text.strip())),)
        self._shown = options
        lines = self.query_one(OptionList)
        lines.clear_options()
        lines.add_options([Text(option.label) for option in options])
        lines.highlighted = 0 if options else None
