"""Predicted against measured: every metric of every rung of a run, plans to try next, and the refit of the machine's profile."""

import contextlib
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from advisor.feedback.next_plans import NextPlans
from advisor.feedback.refit import RefitResult
from advisor.profiles.errors import AdvisorError
from advisor.profiles.run import Run
from advisor.rendering.text.comparison import run_comparison_lines
from advisor.rendering.text.next_plans import next_plan_lines
from advisor.rendering.text.profile import refit_text
from advisor.tui.contract import AdvisorModal, Interface
from advisor.tui.form.problem import problem_of
from advisor.tui.keys import COMPARE_KEYS, MODAL_KEYS
from advisor.tui.palette import styled
from advisor.tui.panels.stable_text import LEAST_WIDTH
from advisor.tui.screens.asking import AskScreen, refusal

_STORE, _LEAVE = "Store it: later plans are predicted with it", "Leave the profile as it is"
_HINT = "f refits the profile from this run, o opens another, Esc goes back."


class CompareScreen(AdvisorModal[None]):
    """One run."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS, *COMPARE_KEYS]

    def __init__(self, ui: Interface, run: Run, folder: Path) -> None:
        super().__init__(ui)
        self._run = run
        self._folder = folder
        self._next: tuple[NextPlans, tuple[str, ...]] | None = None

    def compose(self) -> ComposeResult:
        """The comparison in a box that scrolls."""
        with Vertical(classes="box tall compared") as box:
            box.border_title = self.ui.box_title(f"Predicted against measured: {self._run.title}")
            with VerticalScroll(classes="scroll"):
                yield Static("", id="compared", markup=False)
            yield Static(_HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Focus the comparison, and find plans to try next."""
        self.query_one(".scroll").focus()
        self.watch(self.app, "theme", self.redraw, init=False)
        self._find_next_plans()

    def on_resize(self, event: Resize) -> None:
        """Fit the columns to the width."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the comparison into the width of the box."""
        look = self.ui.look(max(self.query_one(".scroll").scrollable_content_region.width, LEAST_WIDTH))
        following = next_plan_lines(*self._next, look) if self._next is not None else []
        text = look.finish(run_comparison_lines(self._run, look, following))
        self.query_one("#compared", Static).update(styled(text.splitlines(), self.ui.palette))

    @work(thread=True, exclusive=True, group="next", exit_on_error=False)
    def _find_next_plans(self) -> None:
        with contextlib.suppress(AdvisorError):  # a run whose plan or model is missing has no next plans
            self.app.call_from_thread(self._show_next_plans, self.ui.jobs.tasks.next_plans(self._folder))

    def _show_next_plans(self, plans: tuple[NextPlans, tuple[str, ...]]) -> None:
        self._next = plans
        self.redraw()

    def action_runs(self) -> None:
        """Choose another run."""
        self.dismiss()
        self.ui.jobs.pick_run()

    def action_refit(self) -> None:
        """Refit the profile from this run, show the result, and ask whether to store it."""
        self.query_one(".hint", Static).update("refitting ...")
        self._refit()

    @work(thread=True, exclusive=True, group="refit", exit_on_error=False)
    def _refit(self) -> None:
        try:
            result: RefitResult | AdvisorError = self.ui.jobs.tasks.refit(self._folder)
        except AdvisorError as error:
            result = error
        self.app.call_from_thread(self._show_refit, result)

    def _show_refit(self, result: RefitResult | AdvisorError) -> None:
        self.query_one(".hint", Static).update(_HINT)
        if isinstance(result, AdvisorError):
            self.ui.open_screen(AskScreen(self.ui, "Nothing was refitted", refusal(problem_of(result)), ("Back",)))
            return

        def store(answer: str | None) -> None:
            if answer == _STORE:
                self._store(result)

        self.ui.open_screen(_RefitScreen(self.ui, result), store)

    def _store(self, result: RefitResult) -> None:
        try:
            self.ui.jobs.tasks.store(result)
        except AdvisorError as error:
            self.notify(problem_of(error).message, severity="error", markup=False)
            return
        self.ui.planning.plan_again()
        self._find_next_plans()
        self.query_one(".hint", Static).update(f"Stored in {result.profile.name}; plans use it now. Esc goes back.")


class _RefitScreen(AskScreen):
    """The refitted factors, before they are stored."""

    def __init__(self, ui: Interface, result: RefitResult) -> None:
        super().__init__(ui, "Refit the machine's profile", (), (_LEAVE, _STORE))
        self._result = result

    def text(self, width: int, palette: str) -> Text:
        """The factors, and the error before and after."""
        return styled(refit_text(self._result, width=width, colour=True, ascii=self.ui.settings.ascii).splitlines(), palette)
