"""A question in a box: a text, and answers of which the first, the harmless one, has the focus."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.widgets import OptionList, Static

from advisor.tui.contract import AdvisorModal, Interface
from advisor.tui.form.problem import Problem
from advisor.tui.keys import MODAL_KEYS
from advisor.tui.panels.stable_text import LEAST_WIDTH

HINT = "Up, down and Enter answer, Tab goes to the text, Esc goes back."


class AskScreen(AdvisorModal[str]):
    """Returns the answer that was chosen; `None` after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    BOX = "box"
    """CSS classes of the box; `tall` for a text that may have to scroll."""

    def __init__(self, ui: Interface, title: str, lines: Sequence[str], choices: tuple[str, ...]) -> None:
        super().__init__(ui)
        self._title = title
        self._lines = lines
        self.choices = choices

    def compose(self) -> ComposeResult:
        """Text over answers, in a box; a long text scrolls, the answers stay."""
        with Vertical(classes=self.BOX) as box:
            box.border_title = self._title
            with VerticalScroll(classes="scroll"):
                yield Static("", classes="question", markup=False)
            yield OptionList(*(Text(choice) for choice in self.choices), compact=True, classes="choices")
            yield Static(HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Focus the answers."""
        self.watch(self.app, "theme", self.redraw, init=False)
        self.query_one(OptionList).focus()

    def on_resize(self, event: Resize) -> None:
        """Wrap the text again."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the text into the width of the box."""
        width = max(self.query_one(".scroll").scrollable_content_region.width, LEAST_WIDTH)
        self.query_one(".question", Static).update(self.text(width, self.ui.palette))

    def text(self, width: int, palette: str) -> Text:
        """The text of the question in `width` columns."""
        from advisor.rendering.text.style import wrap
        from advisor.tui.palette import styled

        look = self.ui.look(width)
        return styled(look.finish(line for text in self._lines for line in wrap(text, look)).splitlines(), palette)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the answer."""
        self.dismiss(self.choices[event.option_index])


def refusal(problem: Problem) -> list[str]:
    """Why something cannot be done, and what helps, one line each."""
    return list(_sentences(problem))


def _sentences(problem: Problem) -> Iterator[str]:
    for text in problem.message.split(". "):
        yield f"{text[:1].upper()}{text[1:]}"
    yield from problem.help
