"""What stands over a screen for a moment: a list to pick from, a file to name, a text to read."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from advisor.tui.form.choices import Choices
from advisor.tui.keys import MODAL_KEYS
from advisor.tui.panels.picker import Picker
from advisor.tui.panels.stable_text import LEAST_WIDTH

TAKES = "Enter takes the marked line, Esc goes back."


class _Modal(ModalScreen[str]):
    """A box over the screen; Esc goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title


class PickScreen(_Modal):
    """A list narrowed by typing; gives back what was picked."""

    def __init__(self, title: str, choices: Choices, *, typed: str = "", empty: str = "", hint: str = TAKES) -> None:
        super().__init__(title)
        self._picker = Picker(choices, typed=typed, empty=empty)
        self._hint = hint

    def compose(self) -> ComposeResult:
        """The list in a box."""
        with Vertical(classes="box tall") as box:
            box.border_title = self._title
            yield self._picker
            yield Static(self._hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Ready to type."""
        self._picker.focus_text()

    def fill(self, choices: Choices) -> None:
        """Offer what was found meanwhile."""
        self._picker.fill(choices)

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """Give it back."""
        self.dismiss(event.value)


class ListScreen(_Modal):
    """Lines of which one is taken; gives back its number as text."""

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
        """Give back which."""
        self.dismiss(str(event.option_index))


class PathScreen(_Modal):
    """A file's name; gives it back."""

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
        """Give it back, unless it is empty."""
        if event.value.strip():
            self.dismiss(event.value.strip())


class TextScreen(_Modal):
    """A text to read, drawn at the width that it has."""

    def __init__(self, title: str, text: Callable[[int], Text]) -> None:
        super().__init__(title)
        self._text = text

    def compose(self) -> ComposeResult:
        """The text in a box that scrolls."""
        with VerticalScroll(classes="box read") as box:
            box.border_title = self._title
            yield Static("", id="text", markup=False)

    def on_mount(self) -> None:
        """Follow the theme."""
        self.watch(self.app, "theme", self.redraw, init=False)

    def on_resize(self, event: Resize) -> None:
        """The text follows the width."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the text."""
        width = max(self.query_one(".box").scrollable_content_region.width, LEAST_WIDTH)
        self.query_one("#text", Static).update(self._text(width))
