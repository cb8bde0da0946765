"""Boxes over a screen: a list to pick from, a file name to type, a text to read."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from advisor.tui.contract import AdvisorModal, Interface
from advisor.tui.form.choices import Choices
from advisor.tui.keys import MODAL_KEYS
from advisor.tui.panels.picker import Picker
from advisor.tui.panels.stable_text import LEAST_WIDTH

PICK_HINT = "Enter takes the marked line, Esc goes back."


class _Modal(ModalScreen[str]):
    """A box over the screen; Esc goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title


class PickScreen(_Modal):
    """A list filtered by a text; returns the value of the line that was picked."""

    def __init__(self, title: str, choices: Choices, *, other: str = "", placeholder: str = "", hint: str = PICK_HINT) -> None:
        super().__init__(title)
        self._picker = Picker(choices, other=other, placeholder=placeholder)
        self._hint = hint

    def compose(self) -> ComposeResult:
        """The list in a box."""
        with Vertical(classes="box tall") as box:
            box.border_title = self._title
            yield self._picker
            yield Static(self._hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Focus the text."""
        self._picker.focus_text()

    def fill(self, choices: Choices) -> None:
        """Replace the lines of the list."""
        self._picker.fill(choices)

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """Return the value."""
        self.dismiss(event.value)


class ListScreen(_Modal):
    """Lines to pick from; returns the index of the picked line, as text."""

    def __init__(self, title: str, lines: Sequence[str], hint: str) -> None:
        super().__init__(title)
        self._lines = lines
        self._hint = hint

    def compose(self) -> ComposeResult:
        """The lines in a box."""
        with Vertical(classes="box") as box:
            box.border_title = self._title
            yield OptionList(*(Text(line) for line in self._lines), compact=True)
            yield Static(self._hint, classes="hint", markup=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the index."""
        self.dismiss(str(event.option_index))


class PathScreen(_Modal):
    """A file name to type; returns it."""

    def __init__(self, title: str, path: str, hint: str) -> None:
        super().__init__(title)
        self._path = path
        self._hint = hint

    def compose(self) -> ComposeResult:
        """The name in a box."""
        with Vertical(classes="box") as box:
            box.border_title = self._title
            yield Input(self._path, compact=True)
            yield Static(self._hint, classes="hint", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the name, unless it is empty."""
        if event.value.strip():
            self.dismiss(event.value.strip())


class TextScreen(AdvisorModal[str]):
    """A text to read, drawn by a function of its width in columns."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    def __init__(self, ui: Interface, title: str, text: Callable[[int], Text]) -> None:
        super().__init__(ui)
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """The text in a box that scrolls."""
        with VerticalScroll(classes="box read") as box:
            box.border_title = self._title
            yield Static("", id="text", markup=False)

    def on_mount(self) -> None:
        """Draw again when the theme changes."""
        self.watch(self.app, "theme", self.redraw, init=False)

    def on_resize(self, event: Resize) -> None:
        """Wrap the text again."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the text."""
        width = max(self.query_one(".box").scrollable_content_region.width, LEAST_WIDTH)
        self.query_one("#text", Static).update(self._text(width))
