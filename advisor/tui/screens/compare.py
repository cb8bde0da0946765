"""Predicted against measured: every metric of every rung of a run, and what it would teach the machine's profile."""

import contextlib
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from advisor.feedback.next_plans import NextPlans
from advisor.feedback.refit import RefitResult
from advisor.profiles.errors import AdvisorError
from advisor.profiles.run import Run
from advisor.rendering.text.comparison import run_comparison_lines
from advisor.rendering.text.next_plans import next_plan_lines
from advisor.rendering.text.profile import refit_text
from advisor.tui.contract import TellsFaults, session_of
from advisor.tui.keys import COMPARE_KEYS, MODAL_KEYS
from advisor.tui.palette import toned
from advisor.tui.panels.stable_text import LEAST_WIDTH
from advisor.tui.screens.asking import AskScreen, refusal
from advisor.tui.status_text import problem_of

_KEEP, _LEAVE = "Store it: later plans predict as this run was measured", "Leave the profile as it is"
_HINT = "f refits the profile from this run, o opens another, Esc goes back."


class CompareScreen(TellsFaults, ModalScreen[None]):
    """One run."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS, *COMPARE_KEYS]

    def __init__(self, run: Run, folder: Path) -> None:
        super().__init__()
        self._run = run
        self._folder = folder
        self._next: tuple[NextPlans, tuple[str, ...]] | None = None

    def compose(self) -> ComposeResult:
        """The comparison in a box that scrolls."""
        with Vertical(classes="box tall compared") as box:
            box.border_title = session_of(self).titled(f"Predicted against measured: {self._run.title}")
            with VerticalScroll(classes="told"):
                yield Static("", id="compared", markup=False)
            yield Static(_HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Ready to scroll; what comes next is shown once it is known."""
        self.query_one(".told").focus()
        self.watch(session_of(self), "theme", self.redraw, init=False)
        self._look_ahead()

    def on_resize(self, event: Resize) -> None:
        """Columns follow the width."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the comparison at the width that it has."""
        session = session_of(self)
        look = session.look(max(self.query_one(".told").scrollable_content_region.width, LEAST_WIDTH))
        following = next_plan_lines(*self._next, look) if self._next is not None else []
        text = look.finish(run_comparison_lines(self._run, look, following))
        self.query_one("#compared", Static).update(toned(text.splitlines(), session.palette))

    @work(thread=True, exclusive=True, group="next", exit_on_error=False)
    def _look_ahead(self) -> None:
        session = session_of(self)
        with contextlib.suppress(AdvisorError):  # a run without its plan, or of a model that is gone, has no next one
            session.call_from_thread(self._looked_ahead, session.workshop.next_plans(self._folder))

    def _looked_ahead(self, found: tuple[NextPlans, tuple[str, ...]]) -> None:
        self._next = found
        self.redraw()

    def action_runs(self) -> None:
        """Another run in place of this one."""
        session = session_of(self)
        self.dismiss()
        session.pick_run()

    def action_refit(self) -> None:
        """See what the run would teach, then decide."""
        self.query_one(".hint", Static).update("refitting ...")
        self._teach()

    @work(thread=True, exclusive=True, group="refit", exit_on_error=False)
    def _teach(self) -> None:
        session = session_of(self)
        try:
            found: RefitResult | AdvisorError = session.workshop.taught(self._folder)
        except AdvisorError as error:
            found = error
        session.call_from_thread(self._taught, found)

    def _taught(self, found: RefitResult | AdvisorError) -> None:
        session = session_of(self)
        self.query_one(".hint", Static).update(_HINT)
        if isinstance(found, AdvisorError):
            session.push_screen(AskScreen("Nothing was refitted", refusal(problem_of(found)), ("Back",)))
            return

        def take(answer: str | None) -> None:
            if answer == _KEEP:
                self._keep(found)

        session.push_screen(_TaughtScreen(found), take)

    def _keep(self, taught: RefitResult) -> None:
        session = session_of(self)
        try:
            session.workshop.keep(taught)
        except AdvisorError as error:
            session.notify(problem_of(error).message, severity="error", markup=False)
            return
        session.plan_anew()
        self._look_ahead()
        self.query_one(".hint", Static).update(f"Stored in {taught.profile.name}; plans follow it now. Esc goes back.")


class _TaughtScreen(AskScreen):
    """What a run teaches, before it is stored."""

    def __init__(self, taught: RefitResult) -> None:
        super().__init__("Refit the machine's profile", (), (_LEAVE, _KEEP))
        self._taught = taught

    def text(self, width: int, palette: str) -> Text:
        """The factors and the error before and after."""
        session = session_of(self)
        return toned(refit_text(self._taught, width=width, colour=True, ascii=session.setting.ascii).splitlines(), palette)
