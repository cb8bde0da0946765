"""A question over the screen: what it is about, and answers of which the first, the harmless one, has the focus."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static

from advisor.tui.contract import session_of
from advisor.tui.keys import MODAL_KEYS
from advisor.tui.panels.stable_text import LEAST_WIDTH
from advisor.tui.status_text import Problem

HINT = "Up, down and Enter answer, Tab goes to the text, Esc goes back."


class AskScreen(ModalScreen[str]):
    """Gives back the answer that was taken; nothing on Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    BOX = "box"
    """Classes of the box; a tall one is for a text that may have to scroll."""

    def __init__(self, title: str, lines: Sequence[str], choices: tuple[str, ...]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self.choices = choices

    def compose(self) -> ComposeResult:
        """Text over answers, in a box; a long text scrolls, the answers stay."""
        with Vertical(classes=self.BOX) as box:
            box.border_title = self._title
            with VerticalScroll(classes="told"):
                yield Static("", classes="asked", markup=False)
            yield OptionList(*(Text(choice) for choice in self.choices), compact=True, classes="answers")
            yield Static(HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Ready to answer."""
        self.watch(session_of(self), "theme", self.redraw, init=False)
        self.query_one(OptionList).focus()

    def on_resize(self, event: Resize) -> None:
        """The text follows the width."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the text at the width that it has."""
        session = session_of(self)
        self.query_one(".asked", Static).update(
            self.text(max(self.query_one(".told").scrollable_content_region.width, LEAST_WIDTH), session.palette)
        )

    def text(self, width: int, palette: str) -> Text:
        """What is asked about, at a width."""
        from advisor.rendering.text.style import wrap
        from advisor.tui.palette import toned

        look = session_of(self).look(width)
        return toned(look.finish(line for text in self._lines for line in wrap(text, look)).splitlines(), palette)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Give back the answer."""
        self.dismiss(self.choices[event.option_index])


def refusal(problem: Problem) -> list[str]:
    """Why something cannot be done, and what helps, a line each."""
    return list(_sentences(problem))


def _sentences(problem: Problem) -> Iterator[str]:
    for text in problem.message.split(". "):
        yield f"{text[:1].upper()}{text[1:]}"
    yield from problem.help
