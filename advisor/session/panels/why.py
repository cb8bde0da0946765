"""Why: the selected plan's numbers against the limits, then each technique with the number that decided it."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from advisor.session.toned import toned

if TYPE_CHECKING:
    from advisor.advice import Advice, Candidate
    from advisor.profiles.request import Limits
    from advisor.views.style import Look


class WhyPanel(VerticalScroll, can_focus=True):
    """Text that scrolls; a line that says what is still being worked out where it is."""

    BORDER_TITLE = "3 Why"

    def __init__(self) -> None:
        super().__init__(id="why", classes="panel")

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("", id="why-text", markup=False)

    def show(self, advice: "Advice", look: "Look", palette: str) -> None:
        """The chosen plan of an answer, with reasons."""
        from advisor.views.advice import reason_lines, wider_lines

        lines = _head(advice.chosen, advice.request.limits, look)
        self._update([*lines, *wider_lines(advice, look), *reason_lines(advice, look)], look, palette)

    def show_soon(self, candidate: "Candidate", limits: "Limits", look: "Look", palette: str) -> None:
        """What is known of a plan before it was simulated."""
        self._update([*_head(candidate, limits, look), "", look.paint("Simulating this plan ...", "dim")], look, palette)

    def say(self, lines: list[str]) -> None:
        """Plain lines, where there is no plan."""
        self.query_one(Static).update("\n".join(lines))

    def _update(self, lines: list[str], look: "Look", palette: str) -> None:
        self.query_one(Static).update(toned(look.finish(lines).splitlines(), palette))


def _head(candidate: "Candidate", limits: "Limits", look: "Look") -> list[str]:
    from advisor.views.plans import describe
    from advisor.views.style import wrap
    from advisor.views.verdicts import verdict_lines

    name = " + ".join(describe(technique) for technique in candidate.techniques) or "the unmodified model"
    title = [look.paint(line, "title") for line in wrap(name, look)]
    return [*title, "", *verdict_lines(candidate.metrics, limits, look)]
