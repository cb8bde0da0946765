"""Why: the binding limit of the selected plan, its numbers, and the reason of each technique; a cursor moves over limits and techniques."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message

from advisor.tui.form.fields import OF_LIMIT
from advisor.tui.keys import WHY_KEYS
from advisor.tui.palette import styled
from advisor.tui.panels.stable_text import StableText

if TYPE_CHECKING:
    from advisor.planning.advice import Candidate
    from advisor.profiles.request import Limits
    from advisor.rendering.text.insights import ExplainedPlan, Paragraph
    from advisor.rendering.text.style import Look


class WhyPanel(StableText, can_focus=True):
    """Text that scrolls, with a cursor that Enter acts on. Posts that it has or lost the focus, and what was taken."""

    BORDER_TITLE = "3 Why"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "walk(1)", "Next technique", show=False),
        Binding("up", "walk(-1)", "Previous technique", show=False),
        *WHY_KEYS,
    ]

    class Taken(Message):
        """Enter was pressed on a limit or on a technique."""

        def __init__(self, topic: str) -> None:
            super().__init__()
            self.topic = topic

    class Entered(Message):
        """The panel has got or lost the focus."""

        def __init__(self, focused: bool) -> None:
            super().__init__()
            self.focused = focused

    def __init__(self) -> None:
        super().__init__(id="why", classes="panel")
        self._parts: tuple[Paragraph, ...] = ()
        self._look: Look | None = None
        self._fit: Callable[[], None] | None = None
        """Draws the present content into the present width."""
        self._palette = "none"
        self.topic: str | None = None
        """The limit or technique that the cursor was moved to."""

    def show(self, explained: "ExplainedPlan", look: "Callable[[int], Look]", palette: str) -> None:
        """Show the chosen plan of an answer, with reasons."""
        from advisor.rendering.text.insights import why_paragraphs

        self._put(lambda look: why_paragraphs(explained, look), look, palette)

    def show_unsimulated(self, candidate: "Candidate", limits: "Limits", look: "Callable[[int], Look]", palette: str) -> None:
        """Show the numbers of a plan that has not been simulated."""
        from advisor.rendering.text.insights import Paragraph, plan_paragraphs

        def paragraphs(look: "Look") -> "Iterable[Paragraph]":
            yield from plan_paragraphs(candidate, limits, look)
            yield Paragraph(("", look.paint("Simulating this plan ...", "dim")))

        self._put(paragraphs, look, palette)

    def say(self, lines: Sequence[str]) -> None:
        """Show plain lines, where there is no plan."""

        def fit() -> None:
            self.put(Text("\n".join(part for line in lines for part in wrap(line, self.line_width) or [""])))

        self._parts, self._fit = (), fit
        fit()

    def on_resize(self) -> None:
        """Draw into the new width."""
        if self._fit is not None:
            self._fit()

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show the cursor while the panel has the focus."""
        super().watch_has_focus(has_focus)
        self.border_subtitle = "Enter: changes, w: require or forbid" if has_focus else ""
        self._draw()
        self.post_message(self.Entered(has_focus))

    def action_walk(self, step: int) -> None:
        """Move the cursor to the next or the previous limit or technique; before the first, scroll to the top."""
        topics = self._topics
        if not topics:
            return
        index = topics.index(self.cursor or topics[0]) + step
        self.go_to(topics[min(max(index, 0), len(topics) - 1)])
        if index < 0:
            self.scroll_home(animate=False)

    def go_to(self, topic: str | None) -> None:
        """Move the cursor to a limit or a technique; `None` moves it to the first."""
        self.topic = topic
        self._draw()
        self._scroll_to_cursor()

    def texts(self) -> dict[str, str]:
        """Name and text of each limit and technique, in order from the cursor on, then from the first."""
        texts = {part.topic: " ".join((part.topic, *part.lines)) for part in self._parts if part.topic is not None}
        order = list(texts)
        start = order.index(self.cursor) if self.cursor in texts else 0
        return {topic: texts[topic] for topic in (*order[start:], *order[:start])}

    def action_take(self) -> None:
        """Post the limit or technique under the cursor."""
        if self.cursor is not None:
            self.post_message(self.Taken(self.cursor))

    @property
    def cursor(self) -> str | None:
        """The limit or technique under the cursor; the first one before the cursor was moved."""
        topics = self._topics
        return self.topic if self.topic in topics else next(iter(topics), None)

    @property
    def technique(self) -> str | None:
        """The technique under the cursor; `None` where it is a limit."""
        return None if self.cursor in OF_LIMIT else self.cursor

    @property
    def _topics(self) -> "list[str]":
        return [part.topic for part in self._parts if part.topic is not None]

    def _put(self, parts: "Callable[[Look], Iterable[Paragraph]]", look: "Callable[[int], Look]", palette: str) -> None:
        def fit() -> None:
            self._look, self._palette = look(self.line_width), palette
            self._parts = tuple(parts(self._look))
            self._draw()
            if self.has_focus and self.topic in self._topics:
                self._scroll_to_cursor()

        self._fit = fit
        fit()

    def _draw(self) -> None:
        if self._look is None or not self._parts:
            return
        lines = [line for part in self._parts for line in self._lines(part)]
        self.put(styled(self._look.finish(lines).splitlines(), self._palette))

    def _lines(self, part: "Paragraph") -> "list[str]":
        """Lines with the margin of the cursor; parts without a topic have no margin."""
        if part.topic is None:
            return list(part.lines)
        cursor = self.cursor
        mark = "> " if self.has_focus and part.topic == cursor else "  "
        return [(mark if number == 0 else "  ") + line for number, line in enumerate(part.lines)]

    def _scroll_to_cursor(self) -> None:
        top = 0
        for part in self._parts:
            if part.topic is not None and part.topic == self.cursor:
                self.scroll_to_region(Region(0, top, 1, len(part.lines)), animate=False, force=True)
                return
            top += len(part.lines)
