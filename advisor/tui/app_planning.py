"""How the app's questions are answered: in threads, first as far as it is known, then simulated with reasons."""

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.app import App
from textual.reactive import reactive
from textual.timer import Timer
from textual.worker import Worker, WorkerState, get_current_worker

from advisor.cli.failures import describe
from advisor.profiles.errors import AdvisorError
from advisor.tui import gc_control as garbage
from advisor.tui.form.values import FormValues
from advisor.tui.status_text import Problem, problem_of
from advisor.tui.workers.planning_client import Here, Planned, PlanningClient

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.tui.form.saved_state import SessionState

    _Base = App[None]
else:
    _Base = object

DRAWN_WITHIN_S = 0.5


class Planning(_Base):
    """The part of the session's app that asks the desk, and keeps what it answered for the screens to watch."""

    planned: reactive[Planned | None] = reactive(None)
    detail: "reactive[Advice | None]" = reactive(None)
    problem: reactive[Problem | None] = reactive(None)
    busy: reactive[bool] = reactive(False)
    here: reactive[Here | None] = reactive(None)

    if TYPE_CHECKING:  # of the session's app
        desk: PlanningClient
        state: SessionState

        def keep(self, state: SessionState) -> None:
            """Remember a state."""

    _pause: Timer | None = None
    _tidying: Timer | None = None

    @property
    def waiting(self) -> bool:
        """Whether something was asked that is not answered yet."""
        return self.busy or self._pause is not None or (self.planned is not None and self.detail is None)

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
        self.detail = self._known_detail(self.planned)
        self._ask_for_detail()

    def _show(self, planned: Planned) -> None:
        """Put an answer on the screen, drawn once with its reasons where they are known."""
        self._put(planned, None)
        self._ask_for_detail()

    def _put(self, planned: Planned, detail: "Advice | None") -> None:
        """Have both drawn at once; without a detail, the one that is known where the best plan is shown."""
        self.set_reactive(Planning.planned, planned)
        self.set_reactive(Planning.detail, detail or self._known_detail(planned))
        self.mutate_reactive(Planning.planned)

    def _known_detail(self, planned: Planned) -> "Advice | None":
        """The reasons of the selected plan, if it is the best one."""
        return planned.advice if planned.final and self.selected == planned.advice.chosen.id else None

    def _ask_for_detail(self) -> None:
        """Have the selected plan simulated where its reasons are not known."""
        self.workers.cancel_group(self, "detail")
        if self.planned is not None and self.planned.final and self.detail is None and self.selected is not None:
            self._detail_of(self.planned, self.selected)

    def plan_soon(self, pause_s: float) -> None:
        """Plan when nothing has been typed for so long, a field that cannot be read as it was planned for; nothing without a model."""
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        before = self.planned.asked if self.planned is not None else None
        asked = self.state.history.readable(before)
        if not asked.text("model") or (asked == before and self.state.asked.errors()):
            return
        self.workers.cancel_group(self, "plan")
        if pause_s:
            self._pause = self.set_timer(pause_s, partial(self._plan, asked))
        else:
            self._plan(asked)

    def _plan(self, asked: FormValues) -> None:
        self._pause = None
        self.busy = True
        self.workers.cancel_group(self, "detail")
        self._answer(asked)

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _answer(self, asked: FormValues) -> None:
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
        self._show(found)
        self.screen.call_after_refresh(drawn.set)

    def _answered(self, found: Planned | Problem) -> None:
        self.busy = False
        if isinstance(found, Problem):
            self.problem = found
            return
        self.problem = None
        self._show(found)
        self._tidy_soon()

    @work(thread=True, exclusive=True, group="detail", exit_on_error=False)
    def _detail_of(self, planned: Planned, plan: str) -> None:
        worker = get_current_worker()
        try:
            advice = self.desk.advice_for(planned, plan, lambda: worker.is_cancelled)
        except AdvisorError as error:
            if not worker.is_cancelled:
                self.call_from_thread(setattr, self, "problem", problem_of(error))
            return
        if advice is not None and not worker.is_cancelled:
            self.call_from_thread(self._detailed, planned, advice)

    def _detailed(self, planned: Planned, advice: "Advice") -> None:
        from advisor.planning.alternatives import with_simulated

        if self.planned is planned and self.selected == advice.chosen.id:  # else another plan was selected on the way here
            self._put(replace(planned, spots=with_simulated(planned.spots, advice.chosen)), advice)

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
    def _fetch(self, asked: FormValues) -> None:
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

    def put_off_tidying(self) -> None:
        """Wait for another rest: a key was pressed."""
        if self._tidying is not None:
            self._tidying.reset()

    def _tidy_soon(self) -> None:
        if self._tidying is not None:
            self._tidying.stop()
        self._tidying = self.set_timer(garbage.REST_S, garbage.collect)
