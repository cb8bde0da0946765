"""Widgets that stay where they are whatever they show: what changes in them is drawn, and nothing around them is laid out again.

Textual lays the whole screen out when a widget's virtual size changes, which takes longer than all else between a key and its frame.
"""

from rich.text import Text
from textual.geometry import Size
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

LEAST_WIDTH = 20
"""Columns that a text is drawn for where there are fewer, as before the first layout."""


class Steady(Widget):
    """Its place follows from the layout alone; bars to scroll still come and go as they are needed."""

    virtual_size: Reactive[Size] = Reactive(Size(0, 0), layout=False)

    def watch_virtual_size(self, size: Size) -> None:
        """What a layout would do: bars to scroll follow."""
        # Textual has no public way to it.
        self._scroll_update(size)


class SteadyText(ScrollView, Steady):
    """Lines of text that scroll. Lines are as wide as the widget at the most: they are never wrapped."""

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: list[Strip] = []

    @property
    def room(self) -> int:
        """Columns that a line has: one stays blank before the bar."""
        return max(self.scrollable_content_region.width - 1, LEAST_WIDTH)

    def put(self, text: Text) -> None:
        """Show this in place of what was there."""
        lines = text.split("\n", allow_blank=True)
        self._strips = [Strip(line.render(self.app.console)) for line in lines]
        self.virtual_size = Size(max((strip.cell_length for strip in self._strips), default=0), len(lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line, in the colours of its ground."""
        place, width = y + self.scroll_offset.y, self.scrollable_content_region.width
        strip = self._strips[place] if place < len(self._strips) else Strip([])
        return strip.adjust_cell_length(width).apply_style(self.rich_style)


class TextField(Input, Steady):
    """One line; `?` opens the help from here too."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Whether the field takes a key for itself."""
        return character != "?" and super().check_consume_key(key, character)
