"""What a person can do now, in words: the command palette, and the help page of the screen below."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import App, SystemCommand
from textual.command import CommandPalette
from textual.screen import Screen

from advisor.tui.keys import WORDS
from advisor.tui.screens.help import HelpScreen
from advisor.tui.themes import THEMES

if TYPE_CHECKING:
    _Base = App[Any]
else:
    _Base = object


class Commands(_Base):
    """Every key of a screen is a command too."""

    def get_system_commands(self, screen: Screen[Any]) -> Iterator[SystemCommand]:
        """One for each key that acts on this screen, and the other theme."""
        named = {found.binding.id: found for found in screen.active_bindings.values() if found.binding.id in WORDS and found.enabled}
        for id, (node, binding, _, _) in named.items():
            yield SystemCommand(WORDS[str(id)], f"key {binding.key_display or binding.key}", partial(self.run_action, binding.action, node))
        if not self.ansi_color:
            other = "light" if self.current_theme.dark else "dark"
            yield SystemCommand(f"Theme: {other}", f"colours for a {other} terminal", partial(self.use_theme, other))

    def action_command_palette(self) -> None:
        """The palette, in plain characters."""
        if not CommandPalette.is_open(self):
            self.push_screen(CommandPalette(placeholder="type to search", id="--command-palette"))

    def use_theme(self, name: str) -> None:
        """Draw in the dark or in the light theme."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = f"advisor-{name}"

    def action_help(self) -> None:
        """Every key of the screen below."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))
