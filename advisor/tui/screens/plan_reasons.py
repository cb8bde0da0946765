"""Reasons of the Plan screen: computes more of them in a thread while Why has the focus, and makes the change that is chosen."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.worker import get_current_worker

from advisor.tui.screens.plan_question import QuestionActions
from advisor.tui.screens.plan_view import PlanView
from advisor.tui.screens.technique import ChangedQuestion, TechniqueScreen

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.sensitivity.findings import Finding
    from advisor.sensitivity.marginal_gain import Gain
    from advisor.tui.workers.planning_client import Planned

FULL_DEVICE = "The device has no more memory than this; m chooses another machine."
CHANGED = "Changed (u undoes this)."


class ReasonActions:
    """Findings about the selected plan, and the changes that they suggest."""

    def __init__(self, view: PlanView, question: QuestionActions) -> None:
        self._view = view
        self._ui = view.ui
        self._question = question

    def restart(self) -> None:
        """Stop computing findings; start again with those that are missing if Why has the focus."""
        planned, advice = self._ui.planning.planned, self._ui.planning.detail
        self._view.workers.cancel_group(self._view, "why")
        self._view.insights.in_work = None
        if planned is None or advice is None or not self._view.why.has_focus:
            return
        from advisor.sensitivity.findings import topics

        insights = self._view.insights.of(planned, advice)
        missing = [topic for topic in topics(advice, planned.budget_gib) if topic not in insights.complete]
        if missing:
            self._view.insights.put(planned, advice, insights.without_incomplete(missing))
            self._view.insights.in_work = missing[0]
            work = partial(self._compute, planned, advice, missing)
            self._view.run_worker(work, thread=True, exclusive=True, group="why", exit_on_error=False)

    def take(self, topic: str) -> None:
        """Open the changes for a technique; move a limit by its computed step."""
        planning = self._ui.planning
        if planning.planned is None or planning.detail is None:
            return
        gains = self._view.insights.of(planning.planned, planning.detail).gains.get(topic)
        if gains is None:
            self._ui.open_screen(TechniqueScreen(self._ui, topic, planning.planned, planning.detail), self._take_change)
        else:
            self._take_gain(gains)

    def _take_change(self, change: ChangedQuestion | None) -> None:
        if change is not None:
            self._question.change(change.values, CHANGED)

    def _take_gain(self, gains: "Sequence[Gain]") -> None:
        from advisor.tui.form.suggestions import with_gain

        values = with_gain(self._question.values, gains[-1])
        if gains[-1].changes_nothing:
            self._view.say("More of this limit changes nothing.")
        elif values is None:
            self._view.say(FULL_DEVICE)
        else:
            self._question.change(values, CHANGED)

    def _compute(self, planned: "Planned", advice: "Advice", topics: Sequence[str]) -> None:
        worker, app = get_current_worker(), self._view.app
        try:
            for finding in self._ui.planning.client.findings(planned, advice, topics, lambda: worker.is_cancelled):
                if worker.is_cancelled:
                    return
                app.call_from_thread(self._add, planned, advice, topics, finding)
        finally:
            if not worker.is_cancelled:
                app.call_from_thread(self._end)

    def _add(self, planned: "Planned", advice: "Advice", topics: Sequence[str], finding: "Finding") -> None:
        cache = self._view.insights
        insights = cache.of(planned, advice).with_finding(finding)
        cache.put(planned, advice, insights)
        if self._ui.planning.detail is advice and cache.in_work is not None:
            cache.in_work = next((topic for topic in topics if topic not in insights.complete), None)
            self._view.show_why()

    def _end(self) -> None:
        if self._view.insights.in_work is not None:  # an error ended the work before all findings were computed
            self._view.insights.in_work = None
            self._view.show_why()
