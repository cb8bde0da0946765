"""What the Plan screen does while reasons are read: works out more of them in a thread, and makes the change that is taken."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual import work
from textual.worker import get_current_worker

from advisor.tui.contract import TellsFaults, session_of
from advisor.tui.form.values import Force
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.plan_actions import FORCE_WORDS, PlanActions
from advisor.tui.screens.technique import Taken, TechniqueScreen

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.rendering.text.insights import ExplainedPlan
    from advisor.sensitivity.findings import Finding, Insights
    from advisor.tui.workers.planning_client import Planned

MOST_KEPT = 16
"""Plans of which is remembered what was worked out."""
DEVICE_IS_FULL = "The device has no more memory than this; m chooses another machine."


class PlanReasons(TellsFaults, PlanActions):
    """Keeps what was worked out, by question and plan."""

    _working_on: str | None = None
    _kept: "dict[tuple[object, ...], Insights]" = {}  # noqa: RUF012 - replaced as a whole, never changed

    def known(self, planned: "Planned", advice: "Advice") -> "ExplainedPlan":
        """What is known by now about a plan."""
        from advisor.rendering.text.insights import ExplainedPlan
        from advisor.sensitivity.slack import limit_slacks

        found = limit_slacks(advice.chosen, advice.request, planned.budget_gib)
        return ExplainedPlan(advice=advice, slacks=found, insights=self._insights(planned, advice), pending_topic=self._working_on)

    if TYPE_CHECKING:  # of the Plan screen

        def show_why(self) -> None:
            """Draw the reasons of the selected plan."""

    def read_on(self) -> None:
        """Work out what is not known yet, if the reasons are being read; stop with what nobody reads."""
        session = session_of(self)
        planned, advice = session.planned, session.detail
        self._stop_working()
        if planned is None or advice is None or not self.query_one(WhyPanel).has_focus:
            return
        from advisor.sensitivity.findings import topics

        insights = self._insights(planned, advice)
        wanted = [topic for topic in topics(advice, planned.budget_gib) if topic not in insights.complete]
        if wanted:
            self._keep(planned, advice, insights.without_part_of(wanted))
            self._working_on = wanted[0]
            self._work_out(planned, advice, wanted)

    def on_why_panel_entered(self, event: WhyPanel.Entered) -> None:
        """The reasons are read, or no more."""
        self.read_on()
        self.show_why()

    def on_why_panel_taken(self, event: WhyPanel.Taken) -> None:
        """What can be done about a technique; more of a limit is taken at once."""
        session = session_of(self)
        if session.planned is None or session.detail is None:
            return
        gains = self._insights(session.planned, session.detail).gains.get(event.topic)
        if gains is None:
            self.app.push_screen(TechniqueScreen(event.topic, session.planned, session.detail), self._take_change)
        else:
            self._take_gain(gains)

    def force_next(self, technique: str) -> None:
        """Force a technique in, or out where the plan has it; one that is forced is free again."""
        session = session_of(self)
        asked = session.state.asked
        spots = session.planned.spots if session.planned is not None else ()
        chosen = any(spot.id == session.selected and technique in spot.candidate.names for spot in spots)
        force = Force.FORBIDDEN if chosen else Force.REQUIRED
        if asked.constraint_of(technique) is not Force.FREE:
            force = Force.FREE
        again = " again" if force is Force.FREE else ""
        self.take_question(asked.with_constraint(technique, force), f"{technique} is {FORCE_WORDS[force]}{again} (u takes it back).")

    def _take_change(self, taken: Taken | None) -> None:
        if taken is not None:
            self.take_question(taken.asked, "Changed (u takes it back).")

    def _take_gain(self, gains: "Sequence[Any]") -> None:
        from advisor.tui.form.suggestions import with_gain

        asked = with_gain(session_of(self).state.asked, gains[-1])
        if gains[-1].is_nothing:
            self.say("More of this limit buys nothing.")
        elif asked is None:
            self.say(DEVICE_IS_FULL)
        else:
            self.take_question(asked, "Changed (u takes it back).")

    def _insights(self, planned: "Planned", advice: "Advice") -> "Insights":
        from advisor.sensitivity.findings import Insights

        return self._kept.get(_key(planned, advice), Insights())

    def _keep(self, planned: "Planned", advice: "Advice", insights: "Insights") -> None:
        key = _key(planned, advice)
        self._kept = dict([*(item for item in self._kept.items() if item[0] != key), (key, insights)][-MOST_KEPT:])

    def _stop_working(self) -> None:
        self.workers.cancel_group(self, "why")
        self._working_on = None

    @work(thread=True, exclusive=True, group="why", exit_on_error=False)
    def _work_out(self, planned: "Planned", advice: "Advice", wanted: Sequence[str]) -> None:
        worker = get_current_worker()
        try:
            for finding in session_of(self).desk.findings(planned, advice, wanted, lambda: worker.is_cancelled):
                if worker.is_cancelled:
                    return
                self.app.call_from_thread(self._found, planned, advice, wanted, finding)
        finally:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._worked_out)

    def _found(self, planned: "Planned", advice: "Advice", wanted: Sequence[str], finding: "Finding") -> None:
        insights = self._insights(planned, advice).with_finding(finding)
        self._keep(planned, advice, insights)
        if session_of(self).detail is advice and self._working_on is not None:
            self._working_on = next((topic for topic in wanted if topic not in insights.complete), None)
            self.show_why()

    def _worked_out(self) -> None:
        if self._working_on is not None:  # it ended before all was found
            self._working_on = None
            self.show_why()


def _key(planned: "Planned", advice: "Advice") -> tuple[object, ...]:
    return (planned.asked.words(), advice.chosen.id)
