"""The session's app: holds the state, asks the desk in threads, and tells the screens through what they watch."""

import contextlib
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import App
from textual.binding import BindingType
from textual.reactive import reactive
from textual.timer import Timer
from textual.worker import Worker, WorkerState, get_current_worker

from advisor.cli.failures import describe
from advisor.profiles.errors import AdvisorError
from advisor.session.answers import Problem, problem_of
from advisor.session.asked import Asked
from advisor.session.commands import Commands
from advisor.session.desk import Desk, Here, Planned
from advisor.session.fields import BY_NAME
from advisor.session.history import History
from advisor.session.in_order import InOrder
from advisor.session.jobs import Jobs
from advisor.session.keys import APP_KEYS
from advisor.session.screens import MODES
from advisor.session.state import SessionState, save_session, with_mark

if TYPE_CHECKING:
    from advisor.advice import Advice
    from advisor.views.style import Look

PAUSE_S = 0.2
"""How long typing must rest before stacks are priced anew; a limit, which only ranks them, waits for nothing."""
SAVED_AFTER_S = 0.3
DRAWN_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a session is drawn and where it is kept."""

    ascii: bool = False
    no_colour: bool = False
    light: bool = False
    file: Path | None = None
    """Where the session is saved; `None`: nowhere."""
    resume: bool = False
    """Whether to begin with the plan instead of the choice of a model."""
    notice: str = ""
    """Something to say when the first screen is there."""


class SessionApp(InOrder, Commands, Jobs, App[None]):
    """Start and Plan screens over one question."""

    TITLE = "advisor"
    CSS_PATH = "session.tcss"
    MODES = MODES
    BINDINGS: ClassVar[list[BindingType]] = [*APP_KEYS]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - an instance variable by Textual's declaration
        (0, "-tiny"),
        (60, "-narrow"),
        (100, "-normal"),
        (170, "-wide"),
    ]

    planned: reactive[Planned | None] = reactive(None)
    detail: "reactive[Advice | None]" = reactive(None)
    problem: reactive[Problem | None] = reactive(None)
    busy: reactive[bool] = reactive(False)
    here: reactive[Here | None] = reactive(None)

    def __init__(self, desk: Desk, state: SessionState, setting: Setting) -> None:
        super().__init__(ansi_color=setting.no_colour)
        self.desk = desk
        self.state = state
        self.setting = setting
        self._joined: str | None = None
        self._unsaved = False
        self._pause: Timer | None = None
        self._saving: Timer | None = None

    def on_mount(self) -> None:
        """Show the first screen, and look at the machine meanwhile."""
        if not self.setting.no_colour:
            self.use_theme("light" if self.setting.light else "dark")
        self.set_class(self.setting.ascii, "-ascii")
        self.switch_mode("plan" if self.setting.resume else "start")
        if self.setting.notice:
            self.notify(self.setting.notice, severity="warning", markup=False)
        self._look_here()
        if self.state.asked.text("model"):
            self.plan_soon(0)

    @property
    def palette(self) -> str:
        """The colours of texts: `dark`, `light` or `none`."""
        if self.setting.no_colour:
            return "none"
        return "light" if not self.current_theme.dark else "dark"

    @property
    def waiting(self) -> bool:
        """Whether something was asked that is not answered yet."""
        return self.busy or self._pause is not None or (self.planned is not None and self.detail is None)

    def look(self, width: int) -> "Look":
        """How views draw into so many columns."""
        from advisor.views.style import Look  # views load the planner's types, which the first frame does not wait for

        return Look(width, colour=True, ascii=self.setting.ascii)

    def ascii_only(self, line: str) -> str:
        """A line as it may be shown: no signs beyond ASCII where none are wanted."""
        if not self.setting.ascii:
            return line
        return self.look(max(len(line), 1)).finish([line]).rstrip("\n")

    def say(self, field: str, text: str) -> None:
        """A person typed into a field: one step of undo for as long as it is the same field."""
        self.ask(self.state.asked.with_text(field, text), join=field)

    def ask(self, asked: Asked, *, join: str | None = None) -> None:
        """Change the question and plan again; what cannot be read leaves the last plan on the screen."""
        history = self.state.history.changed(asked, join=join is not None and join == self._joined)
        if history is self.state.history:
            return
        self._joined = join
        self.take(history)
        field = BY_NAME.get(join or "")
        self.plan_soon(0 if field is not None and field.ranks_only else PAUSE_S)

    def take(self, history: History) -> None:
        """Put the question of this history in place of the present one."""
        self.keep(replace(self.state, history=history))
        errors = self.state.asked.errors()
        self.problem = Problem(next(iter(errors.values())), next(iter(errors))) if errors else None

    def keep(self, state: SessionState) -> None:
        """Remember a state, and save it a moment later."""
        self.state = state
        if self.setting.file is not None:
            if self._saving is not None:
                self._saving.stop()
            self._saving = self.set_timer(SAVED_AFTER_S, self.save)

    def save(self) -> None:
        """Save the session now."""
        if self.setting.file is not None:
            try:
                save_session(self.state, self.setting.file)
            except AdvisorError as error:
                if not self._unsaved:  # once is enough: it is saved after each change
                    self.notify(f"this session is not kept: {error.message}", severity="warning", markup=False)
                self._unsaved = True

    def on_unmount(self) -> None:
        """Nothing that was typed is lost."""
        if self.setting.file is not None:
            with contextlib.suppress(AdvisorError):
                save_session(self.state, self.setting.file)

    def travel(self, history: History) -> None:
        """Undo or redo: another question as a whole."""
        if history is not self.state.history:
            self._joined = None
            self.take(history)
            self.plan_soon(0)

    def end_step(self) -> None:
        """The next change is a step of undo of its own."""
        self._joined = None

    def mark(self, plan: str) -> None:
        """Mark a plan for comparison, or take its mark away."""
        self.keep(replace(self.state, marked=with_mark(self.state.marked, plan)))

    @property
    def selected(self) -> str | None:
        """Id of the plan that is shown: the one that was chosen while it is there, else the best."""
        if self.planned is None:
            return None
        ids = {spot.id for spot in self.planned.spots}
        return self.state.selected if self.state.selected in ids else self.planned.advice.chosen.id

    def select(self, plan: str) -> None:
        """Show another plan; its reasons follow when it has been simulated."""
        if self.planned is None or plan == self.selected:
            return
        best = self.planned.advice.chosen.id
        self.keep(replace(self.state, selected=None if plan == best else plan))
        self._show_detail()

    def _show_detail(self) -> None:
        assert self.planned is not None
        plan = self.selected
        if not self.planned.final:
            self.detail = None
        elif plan is None or plan == self.planned.advice.chosen.id:
            self.workers.cancel_group(self, "detail")
            self.detail = self.planned.advice
        else:
            self.detail = None
            self._detail_of(self.planned, plan)

    def plan_soon(self, pause_s: float) -> None:
        """Plan when nothing has been typed for so long, a field that cannot be read as it was planned for; nothing without a model."""
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        before = self.planned.asked if self.planned is not None else None
        asked = self.state.history.readable(before)
        if not asked.text("model") or (asked == before and self.state.asked.errors()):
            return
        if pause_s:
            self._pause = self.set_timer(pause_s, partial(self._plan, asked))
        else:
            self._plan(asked)

    def _plan(self, asked: Asked) -> None:
        self._pause = None
        self.busy = True
        self.workers.cancel_group(self, "detail")
        self._answer(asked)

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _answer(self, asked: Asked) -> None:
        worker = get_current_worker()
        try:
            sketched = self.desk.sketch(asked)
            if sketched is not None and not worker.is_cancelled:
                drawn = threading.Event()
                self.call_from_thread(self._sketched, sketched, drawn)
                drawn.wait(DRAWN_WITHIN_S)  # so that the answer does not hold it up; another screen may have come up instead
            found: Planned | Problem | None = self.desk.answer(asked, lambda: worker.is_cancelled)
        except AdvisorError as error:
            found = problem_of(error)
        if found is not None and not worker.is_cancelled:
            self.call_from_thread(self._answered, found)

    def _sketched(self, found: Planned, drawn: threading.Event) -> None:
        """What is known at once; the answer follows."""
        self.detail = None
        self.planned = found
        self.screen.call_after_refresh(drawn.set)

    def _answered(self, found: Planned | Problem) -> None:
        self.busy = False
        if isinstance(found, Problem):
            self.problem = found
            return
        self.problem = None
        self.planned = found
        self._show_detail()

    @work(thread=True, exclusive=True, group="detail", exit_on_error=False)
    def _detail_of(self, planned: Planned, plan: str) -> None:
        worker = get_current_worker()
        try:
            advice = self.desk.advice_for(planned, plan, lambda: worker.is_cancelled)
        except AdvisorError as error:
            self.call_from_thread(setattr, self, "problem", problem_of(error))
            return
        if advice is not None and not worker.is_cancelled:
            self.call_from_thread(self._detailed, planned, advice)

    def _detailed(self, planned: Planned, advice: "Advice") -> None:
        if self.planned is planned and self.selected == advice.chosen.id:  # else another plan was selected on the way here
            self.detail = advice

    @work(thread=True, group="here", exit_on_error=False)
    def _look_here(self) -> None:
        try:
            here = self.desk.here()
        except AdvisorError as error:
            here = Here("", error.message)
        self.call_from_thread(setattr, self, "here", here)

    def plan_anew(self) -> None:
        """Look at this machine again and plan with what is known of it now."""
        self.desk.forget_machine()
        self._look_here()
        self.plan_soon(0)

    def fetch_model(self) -> None:
        """Look for the model on the network too, if it is not known here."""
        if self.problem is not None and self.problem.field == "model":
            self.busy = True
            self._fetch(self.state.asked)

    @work(thread=True, exclusive=True, group="fetch", exit_on_error=False)
    def _fetch(self, asked: Asked) -> None:
        try:
            self.desk.fetch(asked.text("model"))
        except AdvisorError as error:
            self.call_from_thread(self._answered, problem_of(error))
        else:
            self.call_from_thread(self.plan_soon, 0)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A fault of our own in a thread: kept in a log, told in a line; the session goes on."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self._answered(problem_of(describe(event.worker.error)))
