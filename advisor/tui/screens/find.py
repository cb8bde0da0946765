"""A line at the foot of the screen to find something by: each letter moves the cursor below it, Esc puts it back."""

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
    """Gives back where it was left with Enter, nothing on Esc. Goes to what is found while it is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *MODAL_KEYS,
        Binding("down", "move(1)", "Next found", show=False),
        Binding("up", "move(-1)", "Previous found", show=False),
    ]

    def __init__(self, what: str, find: Callable[[str], Sequence[str]], go: Callable[[str], None]) -> None:
        super().__init__()
        self._what = what
        self._find = find
        self._go = go
        self._found: Sequence[str] = ()
        self._place = 0

    def compose(self) -> ComposeResult:
        """What is looked for, and how much of it there is."""
        with Horizontal(id="find"):
            yield Label(f" Find {self._what}: ")
            yield TextField(placeholder="a part of a name", compact=True)
            yield Static("", id="found", markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Go to the first that has all these words."""
        event.stop()
        self._found, self._place = self._find(event.value) if event.value.strip() else (), 0
        self._show(none="none has it" if event.value.strip() else "")

    def action_move(self, step: int) -> None:
        """Go to the next or the previous one."""
        if self._found:
            self._place = (self._place + step) % len(self._found)
            self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Stay there."""
        event.stop()
        self.dismiss(self._found[self._place] if self._found else None)

    def _show(self, *, none: str = "") -> None:
        count = f"{self._place + 1} of {len(self._found)}  up, down: others" if self._found else none
        self.query_one("#found", Static).update(count)
        if self._found:
            self._go(self._found[self._place])


def holds(text: str, wanted: str) -> bool:
    """Whether a text has every word of another, whatever the case."""
    return all(word in text.lower() for word in wanted.lower().split())
