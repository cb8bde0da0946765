"""Every key of a screen, with what it does and its id in the keymap file."""

from rich.text import Text
from textual.screen import Screen

from advisor.tui.contract import Interface
from advisor.tui.keys import WORDS, keymap_file
from advisor.tui.screens.modals import TextScreen

_MORE = (
    "",
    "Text fields take all letters; Esc leaves the field, then letters are keys. ctrl+p finds every key by a word.",
    "Numbers take units: 8k, 0.5s, 500ms, 24GB, 1%. An empty field is no limit.",
    "For a screen reader, `advisor plan MODEL --text` and `advisor explain TOPIC` give the same as sentences.",
)


class HelpScreen(TextScreen):
    """The keys of the screen below, with those of the app."""

    def __init__(self, ui: Interface, below: "Screen[object]") -> None:
        bindings = [active.binding for active in below.active_bindings.values()]
        rows = {key.id: f"{key.key_display or key.key:<8}{WORDS[key.id]:<35}{key.id}" for key in bindings if key.id in WORDS}
        text = Text("\n".join((*rows.values(), *_MORE, f"Keys by id can be changed in {keymap_file()}")))
        super().__init__(ui, "Help", lambda width: text)
