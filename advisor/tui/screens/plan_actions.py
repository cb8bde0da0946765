"""What the keys of the Plan screen do beyond showing: find, force, relax, compare, undo."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from advisor.tui.contract import session_of
from advisor.tui.form.choices import machines
from advisor.tui.form.saved_state import FILTERS, MOST_MARKED, SORTS
from advisor.tui.form.values import Force, FormValues
from advisor.tui.panels.limits import LimitsPanel
from advisor.tui.panels.plans import filtered
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.find import FindScreen, holds
from advisor.tui.screens.modals import ListScreen, PickScreen
from advisor.tui.screens.two_plans import TwoPlansScreen

FORCE_WORDS = {Force.FREE: "free", Force.REQUIRED: "forced in", Force.FORBIDDEN: "forced out"}
if TYPE_CHECKING:
    from advisor.tui.workers.planning_client import Planned

    _Base = Screen[Any]
else:
    _Base = object


class PlanActions(_Base):
    """The actions of `PLAN_KEYS` that ask something or change the question."""

    note = ""
    """What was done last, for as long as nothing else is asked."""

    if TYPE_CHECKING:  # of the Plan screen

        def say(self, sentence: str) -> None:
            """The message line."""

        def open_panel(self, name: str) -> None:
            """Give a panel the focus."""

        def show_plans(self) -> None:
            """Draw the table and all that follows it."""

        def force_next(self, technique: str) -> None:
            """Force a technique in, out, or free it."""

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        self.open_panel(name)

    def action_leave(self) -> None:
        """Leave the field that is typed into."""
        self.query_one(LimitsPanel).focus()

    def action_start(self) -> None:
        """Choose another model."""
        session_of(self).switch_mode("start")

    def action_undo(self) -> None:
        """Take the last change of the question back."""
        session, self.note = session_of(self), ""
        session.travel(session.state.history.undone())
        self.query_one(LimitsPanel).show(session.state.asked)

    def action_redo(self) -> None:
        """Make it again."""
        session, self.note = session_of(self), ""
        session.travel(session.state.history.redone())
        self.query_one(LimitsPanel).show(session.state.asked)

    def action_sort(self) -> None:
        """Sort by the next number."""
        state = session_of(self).state
        session_of(self).keep(replace(state, sort=_after(state.sort, SORTS)))
        self.show_plans()

    def action_filter(self) -> None:
        """Show the frontier, all that fit, or all."""
        state = session_of(self).state
        session_of(self).keep(replace(state, filter=_after(state.filter, FILTERS)))
        self.show_plans()
        if (planned := session_of(self).planned) is not None and planned.advice.binding is not None:
            self.say("No plan meets every limit: the nearest are shown, whatever the filter; r shows which limit to move.")

    def action_mark(self) -> None:
        """Mark the selected plan for comparison."""
        session = session_of(self)
        if session.selected is not None:
            session.mark(session.selected)
            self.show_plans()
            self.say(self._marks_told(session.selected))

    def _marks_told(self, plan: str) -> str:
        """What a mark is good for, and the key that goes on."""
        marked = session_of(self).state.marked
        if plan not in marked:
            return "The mark is taken away."
        if len(marked) > 1:
            return "Two plans are marked: c compares them."
        return "Marked: move to another plan and press c. f shows more plans."

    def action_find(self) -> None:
        """Find a limit or a technique in Why, where that is read; else a plan."""
        session, why = session_of(self), self.query_one(WhyPanel)
        if session.planned is None:
            self.say("No plan to look in yet.")
        elif why.has_focus:
            self._find("in the reasons", self._reasons_with, why.go_to, why.topic)
        else:
            self.open_panel("plans")
            self._find("a plan", self._plans_with, self._go_to_plan, session.selected)

    def _find(self, what: str, found: Callable[[str], list[str]], go: Callable[[Any], None], back: str | None) -> None:
        self.app.push_screen(FindScreen(what, found, go), lambda left: go(back) if left is None else None)

    def _reasons_with(self, text: str) -> list[str]:
        """Limits and techniques by their names, then by what is said of them."""
        found = [name for name, told in self.query_one(WhyPanel).texts().items() if holds(told, text)]
        return sorted(found, key=lambda name: not holds(name, text))

    def _plans_with(self, text: str) -> list[str]:
        """Plans by their id and techniques; those in the table first."""
        from advisor.rendering.text.plans import describe

        session = session_of(self)
        assert session.planned is not None
        spots = filtered(session.planned.spots, session.state.filter, session.state.sort)
        spots += [spot for spot in session.planned.spots if spot not in spots]
        return [spot.id for spot in spots if holds(" ".join((spot.id, *map(describe, spot.candidate.techniques))), text)]

    def _go_to_plan(self, plan: str) -> None:
        session_of(self).select(plan)
        self.show_plans()

    def action_machine(self) -> None:
        """Choose this machine, a stored profile or a machine that is not here."""
        here = session_of(self).here
        self.app.push_screen(PickScreen("Machine", machines(here.words if here else "")), self._take_machine)

    def _take_machine(self, picked: str | None) -> None:
        if picked is None:
            return
        session = session_of(self)
        profile = picked.removeprefix("profile:") if picked.startswith("profile:") else ""
        self.take_question(session.state.asked.with_text("hardware", "" if profile else picked).with_text("profile", profile))

    def action_force(self) -> None:
        """Force a technique in or out, or free it again: the one under the cursor of Why, else one of a list."""
        why = self.query_one(WhyPanel)
        if why.has_focus and why.technique is not None:
            self.force_next(why.technique)
            return
        from advisor.backends.techniques import TECHNIQUES  # loaded with the planner

        asked = session_of(self).state.asked
        names = [technique.name for technique in TECHNIQUES]
        lines = [f"{name:<28}{FORCE_WORDS[asked.constraint_of(name)]}" for name in names]
        hint = "Enter forces in, or out of the plan; again frees. Esc goes back."
        self.app.push_screen(
            ListScreen("What if: techniques", lines, hint), lambda taken: self.force_next(names[int(taken)]) if taken else None
        )

    def action_relax(self) -> None:
        """The smallest change of each limit that lets a plan in; Enter makes it."""
        from advisor.rendering.text.advice import relaxation_words

        planned = session_of(self).planned
        if planned is None or not planned.advice.relaxations:
            self.say(_nothing_to_relax(planned))
            return
        items = planned.advice.relaxations
        lines = [relaxation_words(item) for item in items]
        hint = "Enter makes the change, to the likelier limit; u takes it back, Esc goes back."

        def take(taken: str | None) -> None:
            from advisor.tui.form.suggestions import with_relaxation

            if taken is not None:
                self.take_question(with_relaxation(session_of(self).state.asked, items[int(taken)]))

        self.app.push_screen(ListScreen("To get a plan, change one of these", lines, hint), take)

    def action_compare(self) -> None:
        """The two marked plans side by side; with one mark, it beside the selected one; with none, predicted beside measured."""
        session = session_of(self)
        planned = session.planned
        spots = {spot.id: spot for spot in planned.spots} if planned is not None else {}
        marked = [plan for plan in session.state.marked if plan in spots]
        if planned is None or session.selected is None or not marked:
            session.compare_run()
            return
        pair = [spots[plan] for plan in dict.fromkeys((*marked, session.selected))][:MOST_MARKED]
        if len(pair) < MOST_MARKED:
            self.say("Mark a plan with space, move to another, then press c.")
            return
        self.app.push_screen(TwoPlansScreen(planned, pair))

    def take_question(self, asked: FormValues, note: str = "") -> None:
        """Another question as a whole, and the form with it; what the change was is said before how it turns out."""
        self.note = note
        session_of(self).ask(asked)
        self.query_one(LimitsPanel).show(asked)


def _nothing_to_relax(planned: "Planned | None") -> str:
    if planned is not None and not planned.final:
        return "Still looking for what could be relaxed; press r again in a moment."
    meets = planned is not None and planned.advice.binding is None
    return "Nothing to relax: a plan meets every limit." if meets else "Nothing to relax."


def _after(word: str, words: tuple[str, ...]) -> str:
    return words[(words.index(word) + 1) % len(words)]
