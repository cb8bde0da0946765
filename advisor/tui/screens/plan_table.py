"""Keys of the Plan screen that act on its table: sort, filter, mark, compare, find."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from advisor.tui.form.saved_state import FILTERS, MOST_MARKED, SORTS
from advisor.tui.panels.plans import filtered
from advisor.tui.screens.find import FindScreen, has_words
from advisor.tui.screens.plan_view import PlanView
from advisor.tui.screens.two_plans import TwoPlansScreen


class TableActions:
    """Changes what the table shows, and which plan is selected."""

    def __init__(self, view: PlanView) -> None:
        self._view = view
        self._ui = view.ui

    def sort(self) -> None:
        """Sort by the next metric."""
        state = self._ui.store.state
        self._ui.store.update(replace(state, sort=_after(state.sort, SORTS)))
        self._view.show_plans()

    def filter(self) -> None:
        """Show the frontier, all feasible plans, or all plans."""
        state = self._ui.store.state
        self._ui.store.update(replace(state, filter=_after(state.filter, FILTERS)))
        self._view.show_plans()
        if (planned := self._ui.planning.planned) is not None and planned.advice.binding is not None:
            self._view.say("No plan meets every limit: the nearest are shown, whatever the filter; r shows which limit to move.")

    def mark(self) -> None:
        """Mark the selected plan for comparison, or remove its mark."""
        selected = self._ui.planning.selected
        if selected is not None:
            self._ui.store.mark(selected)
            self._view.show_plans()
            self._view.say(_mark_message(selected, self._ui.store.state.marked))

    def compare(self) -> None:
        """Compare the two marked plans, or the marked with the selected one; without a mark, a run with its prediction."""
        planning = self._ui.planning
        planned = planning.planned
        plans = {plan.id: plan for plan in planned.alternatives} if planned is not None else {}
        marked = [id for id in self._ui.store.state.marked if id in plans]
        if planned is None or planning.selected is None or not marked:
            self._ui.jobs.compare_run()
            return
        pair = [plans[id] for id in dict.fromkeys((*marked, planning.selected))][:MOST_MARKED]
        if len(pair) < MOST_MARKED:
            self._view.say("Mark a plan with space, move to another, then press c.")
            return
        self._ui.open_screen(TwoPlansScreen(self._ui, planned, pair))

    def find(self) -> None:
        """Find a limit or a technique where Why has the focus, else a plan."""
        why = self._view.why
        if self._ui.planning.planned is None:
            self._view.say("No plans yet.")
        elif why.has_focus:
            self._find("in the reasons", self._matching_reasons, why.go_to, why.topic)
        else:
            self._view.open_panel("plans")
            self._find("a plan", self._matching_plans, self._select, self._ui.planning.selected)

    def _find(self, what: str, find: Callable[[str], list[str]], show: Callable[[Any], None], before: str | None) -> None:
        def go_back(match: str | None) -> None:
            if match is None:
                show(before)

        self._ui.open_screen(FindScreen(what, find, show), go_back)

    def _matching_reasons(self, words: str) -> list[str]:
        """Limits and techniques whose text has all words, those with the words in their names first."""
        matches = [topic for topic, text in self._view.why.texts().items() if has_words(text, words)]
        return sorted(matches, key=lambda topic: not has_words(topic, words))

    def _matching_plans(self, words: str) -> list[str]:
        """Plans whose id or techniques have all words, those in the table first."""
        from advisor.rendering.text.plans import describe

        planned, state = self._ui.planning.planned, self._ui.store.state
        assert planned is not None
        plans = filtered(planned.alternatives, state.filter, state.sort)
        plans += [plan for plan in planned.alternatives if plan not in plans]
        return [plan.id for plan in plans if has_words(" ".join((plan.id, *map(describe, plan.candidate.techniques))), words)]

    def _select(self, plan: str) -> None:
        self._ui.planning.select(plan)
        self._view.show_plans()


def _mark_message(plan: str, marked: tuple[str, ...]) -> str:
    if plan not in marked:
        return "The mark is removed."
    if len(marked) > 1:
        return "Two plans are marked: c compares them."
    return "Marked: move to another plan and press c. f shows more plans."


def _after(word: str, words: tuple[str, ...]) -> str:
    return words[(words.index(word) + 1) % len(words)]
