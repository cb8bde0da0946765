"""The planning controller: answers questions in threads, and stores the answers that screens show."""

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual.app import App
from textual.timer import Timer
from textual.worker import get_current_worker

from advisor.profiles.errors import AdvisorError
from advisor.tui import gc_control
from advisor.tui.app_state import StateStore
from advisor.tui.form.fields import BY_NAME
from advisor.tui.form.history import History
from advisor.tui.form.problem import Problem, question_problem
from advisor.tui.form.values import FormValues
from advisor.tui.observers import Observers
from advisor.tui.workers.planning_client import Planned, PlanningClient, ThisMachine

if TYPE_CHECKING:
    from advisor.planning.advice import Advice

PAUSE_S = 0.2
"""Time without typing before stacks are priced again. A limit only ranks priced stacks, and needs no pause."""
DRAWN_WITHIN_S = 0.5
"""Longest wait for the frame of a preview before the answer is computed."""


class PlanningController:
    """Changes the question, plans for it, and publishes what was planned."""

    def __init__(self, app: App[None], client: PlanningClient, store: StateStore) -> None:
        self.client = client
        self.planned: Planned | None = None
        self.detail: Advice | None = None
        """The answer with the selected plan as its chosen one, with reasons; `None` until it has been simulated."""
        self.problem: Problem | None = None
        self.busy = False
        self.this_machine: ThisMachine | None = None
        self.plans_changed = Observers()
        """`planned`, and `detail` with it."""
        self.detail_changed = Observers()
        self.problem_changed = Observers()
        self.status_changed = Observers()
        """`busy` or `this_machine`."""
        self._app = app
        self._store = store
        self._joined: str | None = None
        self._fetched_if_missing = ""
        """The model to look for on the network if this machine does not have it: Enter was pressed before that was known."""
        self._pause: Timer | None = None
        self._collection: Timer | None = None

    @property
    def waiting(self) -> bool:
        """Whether a question is not fully answered yet."""
        return self.busy or self._pause is not None or (self.planned is not None and self.detail is None)

    @property
    def selected(self) -> str | None:
        """Id of the plan that is shown: the selected one if the answer has it, else the best one."""
        if self.planned is None:
            return None
        ids = {plan.id for plan in self.planned.alternatives}
        selected = self._store.state.selected
        return selected if selected in ids else self.planned.advice.chosen.id

    def type_into(self, field: str, text: str) -> None:
        """Change the text of a field; consecutive changes of the same field are one step of undo."""
        self.ask(self._store.state.values.with_text(field, text), join=field)

    def end_step(self) -> None:
        """Make the next change a step of undo of its own."""
        self._joined = None

    def ask(self, values: FormValues, *, join: str | None = None) -> None:
        """Replace the question and plan again. A field that cannot be read leaves the last plan on the screen."""
        history = self._store.state.history.changed(values, join=join is not None and join == self._joined)
        if history is self._store.state.history:
            return
        self._joined = join
        self._take(history)
        field = BY_NAME.get(join or "")
        self.plan_soon(0 if field is not None and field.ranks_only else PAUSE_S)

    def clear(self) -> None:
        """Empty the question, marks, filter and order; undo gives the question back."""
        self._joined = None
        cleared = self._store.state.cleared()
        self._store.update(cleared)
        self._take(cleared.history)
        self.plan_soon(0)

    def travel(self, history: History) -> None:
        """Undo or redo: replace the question by that of another point of its history."""
        if history is not self._store.state.history:
            self._joined = None
            self._take(history)
            self.plan_soon(0)

    def select(self, plan: str) -> None:
        """Show another plan; its reasons follow once it has been simulated."""
        if self.planned is None or plan == self.selected:
            return
        best = self.planned.advice.chosen.id
        self._store.update(replace(self._store.state, selected=None if plan == best else plan))
        before, self.detail = self.detail, self._detail_of_best(self.planned)
        if self.detail is not before:
            self.detail_changed.notify()
        self._request_detail()

    def plan_soon(self, pause_s: float) -> None:
        """Plan once nothing has been typed for `pause_s`, with the last readable text of each field. Without a model, planning ends."""
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        before = self.planned.values if self.planned is not None else None
        values = self._store.state.history.readable(before)
        if not values.text("model"):
            self._stop()
            return
        if values == before and self._store.state.values.errors():
            return
        self._cancel("plan")
        if pause_s:
            self._pause = self._app.set_timer(pause_s, partial(self._plan, values))
        else:
            self._plan(values)

    def plan_again(self) -> None:
        """Detect this machine again and plan with what its profiles now say."""
        self.client.forget_machine()
        self.detect_machine()
        self.plan_soon(0)

    def detect_machine(self) -> None:
        """Detect this machine in a thread."""
        self._app.run_worker(self._detect_machine, thread=True, group="this machine", exit_on_error=False)

    def fetch_model(self) -> None:
        """Look for the model on the network too, if it was not found on this machine, or is not once planning has looked for it."""
        model = self._store.state.values.text("model")
        self._fetched_if_missing = model if self.waiting else ""
        if self.problem is not None and self.problem.field == "model":
            self._start_fetch(model)

    def _start_fetch(self, model: str) -> None:
        self._fetched_if_missing = ""
        self._set_busy(True)
        self._app.run_worker(partial(self._fetch, model), thread=True, exclusive=True, group="fetch", exit_on_error=False)

    def show_problem(self, problem: Problem | None) -> None:
        """Show why there is no answer; planning is over. `None` removes the last problem."""
        self._set_busy(False)
        self._set_problem(problem)

    def defer_collection(self) -> None:
        """Restart the wait for garbage collection: a key was pressed."""
        if self._collection is not None:
            self._collection.reset()

    def _take(self, history: History) -> None:
        state = self._store.state
        if any(history.present.text(name) != state.values.text(name) for name in ("model", "hardware", "profile")):
            state = replace(state, selected=None, marked=())  # plans of another model or machine
        self._store.update(replace(state, history=history))
        errors = history.present.errors()
        self._set_problem(Problem(next(iter(errors.values())), next(iter(errors))) if errors else None)

    def _set_problem(self, problem: Problem | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self.problem_changed.notify()

    def _set_busy(self, busy: bool) -> None:
        if busy is not self.busy:
            self.busy = busy
            self.status_changed.notify()

    def _stop(self) -> None:
        """Plan no longer: the question has no model. The last plan stays on the screen, and is no answer to it."""
        self._cancel("plan")
        self.busy = False
        self.status_changed.notify()
        self.problem_changed.notify()

    def _cancel(self, group: str) -> None:
        self._app.workers.cancel_group(self._app, group)

    def _plan(self, values: FormValues) -> None:
        self._pause = None
        self._set_busy(True)
        self._cancel("detail")
        self._app.run_worker(partial(self._answer, values), thread=True, exclusive=True, group="plan", exit_on_error=False)

    def _answer(self, values: FormValues) -> None:
        """Answer in a thread: first a preview, then the simulated answer."""
        worker = get_current_worker()
        try:
            preview = self.client.preview(values)
            if preview is not None and not worker.is_cancelled:
                drawn = threading.Event()
                self._app.call_from_thread(self._show_preview, preview, drawn)
                drawn.wait(DRAWN_WITHIN_S)  # a time limit, as another screen may be shown by now
            result: Planned | Problem | None = self.client.answer(values, lambda: worker.is_cancelled)
        except AdvisorError as error:
            result = question_problem(error, values.text("hardware"))
        if result is not None and not worker.is_cancelled:
            self._app.call_from_thread(self._show_answer, result)

    def _show_preview(self, preview: Planned, drawn: threading.Event) -> None:
        self._show(preview)
        self._app.screen.call_after_refresh(drawn.set)

    def _show_answer(self, result: Planned | Problem) -> None:
        if isinstance(result, Problem):
            self.show_problem(result)
            if result.field == "model" and self._fetched_if_missing == self._store.state.values.text("model") != "":
                self._start_fetch(self._fetched_if_missing)
            return
        self.show_problem(None)
        self._show(result)
        self._collect_soon()

    def _show(self, planned: Planned) -> None:
        """Publish an answer and the detail of its best plan together, so that both are drawn at once."""
        self._publish(planned, None)
        self._request_detail()

    def _publish(self, planned: Planned, detail: "Advice | None") -> None:
        self.planned = planned
        self.detail = detail or self._detail_of_best(planned)
        self.plans_changed.notify()

    def _detail_of_best(self, planned: Planned) -> "Advice | None":
        """The answer itself where its best plan is the selected one: it has the reasons of that plan."""
        return planned.advice if planned.final and self.selected == planned.advice.chosen.id else None

    def _request_detail(self) -> None:
        """Simulate the selected plan in a thread where its detail is missing."""
        self._cancel("detail")
        if self.planned is not None and self.planned.final and self.detail is None and self.selected is not None:
            work = partial(self._find_detail, self.planned, self.selected)
            self._app.run_worker(work, thread=True, exclusive=True, group="detail", exit_on_error=False)

    def _find_detail(self, planned: Planned, plan: str) -> None:
        worker = get_current_worker()
        try:
            advice = self.client.advice_for(planned, plan, lambda: worker.is_cancelled)
        except AdvisorError as error:
            if not worker.is_cancelled:
                self._app.call_from_thread(self._set_problem, question_problem(error))
            return
        if advice is not None and not worker.is_cancelled:
            self._app.call_from_thread(self.show_detail, planned, advice)

    def show_detail(self, planned: Planned, advice: "Advice") -> None:
        """Publish the detail of a plan, unless another answer or another plan is shown by now."""
        from advisor.planning.alternatives import with_simulated

        if self.planned is planned and self.selected == advice.chosen.id:
            self._publish(replace(planned, alternatives=with_simulated(planned.alternatives, advice.chosen)), advice)

    def _detect_machine(self) -> None:
        try:
            machine = self.client.this_machine()
        except AdvisorError as error:
            machine = ThisMachine("", error.message)
        self._app.call_from_thread(self._show_machine, machine)

    def _show_machine(self, machine: ThisMachine) -> None:
        if machine != self.this_machine:
            self.this_machine = machine
            self.status_changed.notify()

    def _fetch(self, model: str) -> None:
        try:
            self.client.fetch(model)
        except AdvisorError as error:
            self._app.call_from_thread(self._show_answer, question_problem(error))
        else:
            self._app.call_from_thread(self.plan_soon, 0)

    def _collect_soon(self) -> None:
        if self._collection is not None:
            self._collection.stop()
        self._collection = self._app.set_timer(gc_control.REST_S, gc_control.collect)
