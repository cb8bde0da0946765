"""The command palette: every key of the screen below as a command."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from textual.app import App, SystemCommand
from textual.command import CommandPalette
from textual.screen import Screen

from advisor.tui.keys import WORDS
from advisor.tui.themes import use_theme


def system_commands(app: App[Any], screen: Screen[Any]) -> Iterator[SystemCommand]:
    """One command for each key that acts on `screen`, and one for the other theme."""
    active = {key.binding.id: key for key in screen.active_bindings.values() if key.binding.id in WORDS and key.enabled}
    for id, (node, binding, _, _) in active.items():
        yield SystemCommand(WORDS[str(id)], f"key {binding.key_display or binding.key}", partial(app.run_action, binding.action, node))
    if not app.ansi_color:
        other = "light" if app.current_theme.dark else "dark"
        yield SystemCommand(f"Theme: {other}", f"colours for a {other} terminal", partial(use_theme, app, other))


def open_palette(app: App[Any]) -> None:
    """Open the command palette with a prompt in ASCII, unless it is open."""
    if not CommandPalette.is_open(app):
        app.push_screen(CommandPalette(placeholder="type to search", id="--command-palette"))
