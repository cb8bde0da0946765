"""A line at the foot of the screen to find something by name: each letter moves the cursor of the screen below, Esc moves it back."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from advisor.tui.keys import MODAL_KEYS
from advisor.tui.panels.stable_text import TextField


class FindScreen(ModalScreen[str]):
    """Returns the match that is shown when Enter is pressed; `None` after Esc. Shows matches while a text is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *MODAL_KEYS,
        Binding("down", "move(1)", "Next match", show=False),
        Binding("up", "move(-1)", "Previous match", show=False),
    ]

    def __init__(self, what: str, find: Callable[[str], Sequence[str]], show: Callable[[str], None]) -> None:
        super().__init__()
        self._what = what
        self._find = find
        self._show_match = show
        self._matches: Sequence[str] = ()
        self._index = 0

    def compose(self) -> ComposeResult:
        """What is searched, the text, and the number of matches."""
        with Horizontal(id="find"):
            yield Label(f" Find {self._what}: ")
            yield TextField(placeholder="a part of a name", compact=True)
            yield Static("", id="matches", markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the first match."""
        event.stop()
        self._matches, self._index = self._find(event.value) if event.value.strip() else (), 0
        self._update(none="no match" if event.value.strip() else "")

    def action_move(self, step: int) -> None:
        """Show the next or the previous match."""
        if self._matches:
            self._index = (self._index + step) % len(self._matches)
            self._update()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the match that is shown."""
        event.stop()
        self.dismiss(self._matches[self._index] if self._matches else None)

    def _update(self, *, none: str = "") -> None:
        count = f"{self._index + 1} of {len(self._matches)}  up, down: others" if self._matches else none
        self.query_one("#matches", Static).update(count)
        if self._matches:
            self._show_match(self._matches[self._index])


def has_words(text: str, words: str) -> bool:
    """Whether `text` has each of the words, in any case."""
    return all(word in text.lower() for word in words.lower().split())
