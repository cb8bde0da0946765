"""Widgets whose content never changes the layout of the screen.

Textual computes the layout of the whole screen when the virtual size of a widget changes, which takes longer than everything else
between a key press and its frame.
"""

from rich.text import Text
from textual.geometry import Size
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

LEAST_WIDTH = 20
"""Least columns to draw a text for; before the first layout there are none."""


class StableWidget(Widget):
    """A widget whose virtual size changes no layout; scroll bars still appear as needed."""

    virtual_size: Reactive[Size] = Reactive(Size(0, 0), layout=False)

    def watch_virtual_size(self, size: Size) -> None:
        """Update the scroll bars, as a layout would."""
        # Textual has no public method for this.
        self._scroll_update(size)


class StableText(ScrollView, StableWidget):
    """Lines of text that scroll; they fit the width of the widget and are not wrapped."""

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: list[Strip] = []

    @property
    def line_width(self) -> int:
        """Columns of a line: one is blank before the scroll bar."""
        return max(self.scrollable_content_region.width - 1, LEAST_WIDTH)

    def put(self, text: Text) -> None:
        """Replace the lines."""
        lines = text.split("\n", allow_blank=True)
        self._strips = [Strip(line.render(self.app.console)) for line in lines]
        self.virtual_size = Size(max((strip.cell_length for strip in self._strips), default=0), len(lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line on the background of the widget."""
        index, width = y + self.scroll_offset.y, self.scrollable_content_region.width
        strip = self._strips[index] if index < len(self._strips) else Strip([])
        return strip.adjust_cell_length(width).apply_style(self.rich_style)


class TextField(Input, StableWidget):
    """One line to type; `?` opens the help here too."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Whether a key is text of the field."""
        return character != "?" and super().check_consume_key(key, character)
