"""A text field that owns every sign but the one that asks for help."""

from textual.widgets import Input

from advisor.session.panels.steady import Steady


class TextField(Input, Steady):
    """One line; `?` opens the help from here too."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Whether the field takes a key for itself."""
        return character != "?" and super().check_consume_key(key, character)
