"""Every key of a screen, with what it does and its id in the keymap file."""

from rich.text import Text
from textual.screen import Screen

from advisor.tui.keys import WORDS, keymap_file
from advisor.tui.screens.modals import TextScreen

_MORE = (
    "",
    "Text fields own all letters; Esc leaves the field, then they act. ctrl+p finds each of these by a word.",
    "Numbers are typed as people write them: 8k, 0.5s, 500ms, 24GB, 1%. An empty field is no limit.",
    "For a screen reader, `advisor plan MODEL --text` and `advisor explain TOPIC` say the same in sentences.",
)


class HelpScreen(TextScreen):
    """The keys of the screen below, those of the app included."""

    def __init__(self, below: "Screen[object]") -> None:
        keys = [found.binding for found in below.active_bindings.values()]
        rows = {key.id: f"{key.key_display or key.key:<8}{WORDS[key.id]:<35}{key.id}" for key in keys if key.id in WORDS}
        text = Text("\n".join((*rows.values(), *_MORE, f"Keys by id can be changed in {keymap_file()}")))
        super().__init__("Help", lambda width: text)
