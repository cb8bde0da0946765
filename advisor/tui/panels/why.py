"""Why: what binds the selected plan, its numbers, and each technique with what let it in or out; a cursor goes from one to the next."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message

from advisor.tui.form.fields import OF_LIMIT
from advisor.tui.keys import WHY_KEYS
from advisor.tui.palette import toned
from advisor.tui.panels.stable_text import SteadyText

if TYPE_CHECKING:
    from advisor.planning.advice import Candidate
    from advisor.profiles.request import Limits
    from advisor.rendering.text.insights import ExplainedPlan, Paragraph
    from advisor.rendering.text.style import Look


class WhyPanel(SteadyText, can_focus=True):
    """Text that scrolls; a mark stands before what Enter acts on. Sends that it was entered, and what was taken."""

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
        """The panel has the focus, or has it no more: what it shows is being read, or not."""

        def __init__(self, reading: bool) -> None:
            super().__init__()
            self.reading = reading

    def __init__(self) -> None:
        super().__init__(id="why", classes="panel")
        self._parts: tuple[Paragraph, ...] = ()
        self._look: Look | None = None
        self._fit: Callable[[], None] | None = None
        """Puts what is shown into the room that there is."""
        self._palette = "none"
        self.topic: str | None = None
        """Where the cursor was moved to."""

    def show(self, known: "ExplainedPlan", look: "Callable[[int], Look]", palette: str) -> None:
        """The chosen plan of an answer, with reasons."""
        from advisor.rendering.text.insights import why_paragraphs

        self._put(lambda look: why_paragraphs(known, look), look, palette)

    def show_soon(self, candidate: "Candidate", limits: "Limits", look: "Callable[[int], Look]", palette: str) -> None:
        """What is known of a plan before it was simulated."""
        from advisor.rendering.text.insights import Paragraph, plan_paragraphs

        self._put(
            lambda look: (*plan_paragraphs(candidate, limits, look), Paragraph(("", look.paint("Simulating this plan ...", "dim")))),
            look,
            palette,
        )

    def say(self, lines: Sequence[str]) -> None:
        """Plain lines, where there is no plan."""
        self._parts, self._fit = (), lambda: self.put(Text("\n".join(part for line in lines for part in wrap(line, self.room) or [""])))
        self._fit()

    def on_resize(self) -> None:
        """Lines follow the width."""
        if self._fit is not None:
            self._fit()

    def watch_has_focus(self, has_focus: bool) -> None:
        """The cursor is shown, and more is worked out, while the panel has the focus."""
        super().watch_has_focus(has_focus)
        self.border_subtitle = "Enter: what can be changed, w: force in or out" if has_focus else ""
        self._draw()
        self.post_message(self.Entered(has_focus))

    def action_walk(self, step: int) -> None:
        """The next or the previous limit or technique; beyond the first, the top."""
        topics = self._topics
        if not topics:
            return
        place = topics.index(self.cursor or topics[0]) + step
        self.go_to(topics[min(max(place, 0), len(topics) - 1)])
        if place < 0:
            self.scroll_home(animate=False)

    def go_to(self, topic: str | None) -> None:
        """Put the cursor on a limit or a technique."""
        self.topic = topic
        self._draw()
        self._scroll_to_cursor()

    def texts(self) -> dict[str, str]:
        """What is said of each limit and technique, from the cursor on and round again."""
        told = {part.topic: " ".join((part.topic, *part.lines)) for part in self._parts if part.topic is not None}
        order = list(told)
        start = order.index(self.cursor) if self.cursor in told else 0
        return {topic: told[topic] for topic in (*order[start:], *order[:start])}

    def action_take(self) -> None:
        """What can be done about what the cursor stands on."""
        if self.cursor is not None:
            self.post_message(self.Taken(self.cursor))

    @property
    def cursor(self) -> str | None:
        """The limit or the technique that the cursor stands on: the first, before it was moved."""
        topics = self._topics
        return self.topic if self.topic in topics else next(iter(topics), None)

    @property
    def technique(self) -> str | None:
        """The technique that the cursor stands on, if it is one."""
        return None if self.cursor in OF_LIMIT else self.cursor

    @property
    def _topics(self) -> "list[str]":
        return [part.topic for part in self._parts if part.topic is not None]

    def _put(self, parts: "Callable[[Look], Iterable[Paragraph]]", look: "Callable[[int], Look]", palette: str) -> None:
        def fit() -> None:
            self._look, self._palette = look(self.room), palette
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
        self.put(toned(self._look.finish(lines).splitlines(), self._palette))

    def _lines(self, part: "Paragraph") -> "list[str]":
        """With the cursor's margin: a mark where it stands, blanks elsewhere; what it never goes to has none."""
        if part.topic is None:
            return list(part.lines)
        cursor = self.cursor
        mark = "> " if self.has_focus and part.topic == cursor else "  "
        return [(mark if place == 0 else "  ") + line for place, line in enumerate(part.lines)]

    def _scroll_to_cursor(self) -> None:
        top = 0
        for part in self._parts:
            if part.topic is not None and part.topic == self.cursor:
                self.scroll_to_region(Region(0, top, 1, len(part.lines)), animate=False, force=True)
                return
            top += len(part.lines)
